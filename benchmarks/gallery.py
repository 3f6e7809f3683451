"""
The thumbnails of docs/index.md: python benchmarks/gallery.py --docs docs

Each is a part of a figure of the documentation: of a file in `assets`, or of a picture that the
examples of a page save when they run.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
SIZE = (360, 240)

# name: page or file, picture that the page saves, part that is shown (left, top, right, bottom)
FIGURES = {
    "sweep": ("getting-started.md", "sweep.jpg", (0, 0, 1, 0.68)),
    "not": ("when-not-to-filter.md", "curves.png", (0, 0, 1, 1)),
    "methods": ("choosing-a-method.md", "specific.png", (0, 0, 1, 1)),
    "signs": ("faq.md", "signs.jpg", (0, 0, 1, 0.49)),
    "demonstration": ("assets/demonstration.jpg", None, (0, 0, 0.55, 0.78)),
    "diagnosis": ("assets/diagnosis.jpg", None, (0.62, 0, 1, 0.5)),
    "controls": ("assets/controls.png", None, (0, 0, 1, 1)),
    "benchmark": ("assets/benchmark-squeezenet.png", None, (0, 0, 1, 1)),
    "filters": ("assets/filters.png", None, (0, 0, 1, 1)),
    "patches": ("assets/patches.png", None, (0, 0, 1, 1)),
    "signatures": ("assets/signatures.jpg", None, (0, 0, 0.385, 0.34)),
    "checkerboards": ("assets/imagenet-checkerboards.jpg", None, (0.35, 0, 0.57, 0.5)),
}


def source(docs, page, picture):
    """The file of a figure, run anew where a page makes it."""
    if picture is None:
        return docs / page
    sys.path.insert(0, str(ROOT / "docs/hooks"))
    import examples

    text = (docs / page).read_text(encoding="utf-8")
    examples.outputs(text, page)
    folder = max(examples.CACHE.glob(f"{page}-*"), key=lambda path: path.stat().st_mtime)
    return folder / picture


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--docs", type=Path, required=True)
    docs = parser.parse_args().docs
    for name, (page, picture, part) in FIGURES.items():
        image = Image.open(source(docs, page, picture)).convert("RGB")
        box = [round(share * image.size[i % 2]) for i, share in enumerate(part)]
        image = ImageOps.pad(image.crop(box), SIZE, color="white")
        image.save(docs / f"assets/gallery/{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
