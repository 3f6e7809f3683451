"""
The picture that stands for the site where it is linked: python benchmarks/social_card.py

README's figure beside the name of the package, 1200 x 630 pixels.
"""

from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

ASSETS = Path(__file__).parents[1] / "docs/assets"
SIZE = (1200, 630)
MARGIN, GAP, TEXT_WIDTH = 48, 40, 410
INDIGO, GREY = "#3f51b5", "#444444"


def font(size, weight="normal"):
    return ImageFont.truetype(font_manager.findfont(f"DejaVu Sans:{weight}"), size)


def draw():
    card = Image.new("RGB", SIZE, "white")
    drawing = ImageDraw.Draw(card)
    drawing.rectangle((0, 0, SIZE[0], 14), fill=INDIGO)
    drawing.text((MARGIN, 150), "xplique-\nforgrad", INDIGO, font(64, "bold"), spacing=12)
    promise = "Low-pass filtered\nattribution maps,\nand what that gains\nbeyond a control"
    drawing.text((MARGIN, 340), promise, GREY, font(31), spacing=12)

    with Image.open(ASSETS / "hero.jpg") as hero:
        left = MARGIN + TEXT_WIDTH + GAP
        hero.thumbnail((SIZE[0] - left - MARGIN // 2, SIZE[1] - 2 * MARGIN))
        card.paste(hero, (left, (SIZE[1] - hero.height) // 2 + 7))
    return card


if __name__ == "__main__":
    draw().save(ASSETS / "social-card.jpg", quality=88)
