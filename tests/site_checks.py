"""
What can be wrong with a built site, each a plain function from the folder of a site to problems.

`python tests/site_checks.py FOLDER` prints those that need no browser.
"""

from __future__ import annotations

import functools
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 1280)

# elements that pages may hold: HTML's, and those of drawings and formulas inside
TAGS = set(
    re.findall(
        r"\w+",
        """
        a abbr article aside audio b blockquote body br button caption code col colgroup dd del
        details dialog div dl dt em figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr
        html i iframe img input ins kbd label li link main mark meta nav noscript ol p picture pre q
        s samp script section select small source span strong style sub summary sup table tbody td
        template textarea tfoot th thead time title tr u ul var video wbr
        circle clippath defs ellipse g line lineargradient path polygon polyline rect stop svg text
        tspan use
        """,
    )
)
# attributes by which an element fetches something
FETCHED = {
    "audio": ["src"],
    "embed": ["src"],
    "iframe": ["src"],
    "img": ["src", "srcset"],
    "input": ["src"],
    "link": ["href"],
    "object": ["data"],
    "script": ["src"],
    "source": ["src", "srcset"],
    "video": ["src", "poster"],
}
# links of a head that only say where something is
TOLD = {"alternate", "canonical", "edit", "next", "prev"}


class Page(HTMLParser):
    """
    What is checked of a page: its elements, their attributes, and its texts.

    Texts go by the outermost of the elements that hold no prose; those of prose by an empty name.
    """

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts = {"title": "", "style": "", "script": "", "pre": "", "code": "", "": ""}
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in self.texts:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data):
        self.texts[self._open[0] if self._open else ""] += data

    def all(self, *tags: str) -> list[dict[str, str]]:
        """Attributes of the elements of these names."""
        return [attributes for tag, attributes in self.elements if tag in tags]

    @functools.cached_property
    def anchors(self) -> set[str]:
        """Names that a link can end in."""
        return {
            attributes[key]
            for _, attributes in self.elements
            for key in ("id", "name")
            if key in attributes
        }


def pages(site: Path) -> dict[str, Page]:
    """The pages of a site by their path, such as `api/filter/index.html`."""
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def address(site: Path) -> str:
    """Where the site will be served, by the canonical link of its home."""
    links = Page((site / "index.html").read_text(encoding="utf-8")).all("link")
    return next(link["href"] for link in links if link.get("rel") == "canonical")


def broken_links(site: Path) -> list[str]:
    """Links and fetched files that the site lacks, and anchors that a page lacks."""
    base, found = address(site), pages(site)
    problems = []
    for path, page in found.items():
        for tag, attributes in page.elements:
            for name in ("href", "src"):
                url = urljoin(base + path.removesuffix("index.html"), attributes.get(name, ""))
                if name not in attributes or not url.startswith(base):
                    continue
                target, _, anchor = url.removeprefix(base).partition("#")
                target = unquote(target.partition("?")[0])
                if target.endswith("/") or not target:
                    target += "index.html"
                if not (site / target).is_file():
                    problems.append(f"{path}: {tag} {name}={attributes[name]!r} leads to no file")
                elif anchor and target in found and unquote(anchor) not in found[target].anchors:
                    problems.append(f"{path}: {attributes[name]!r} leads to no anchor")
    return problems


def unknown_tags(site: Path) -> list[str]:
    """Text such as `<LP(g)>` that a browser takes for an element, and does not show."""
    return [
        f"{path}: <{tag}>"
        for path, page in pages(site).items()
        for tag in sorted({tag for tag, _ in page.elements} - TAGS)
    ]


def raw_markdown(site: Path) -> list[str]:
    """Links, bold text and lists of which no HTML was made."""
    return [
        f"{path}: {text}"
        for path, page in pages(site).items()
        for text in re.findall(r"\]\(\S+\)|\*\*\w[^*\n]*\*\*|\n- \D.*", page.texts[""])
    ]


def pictures_without_text(site: Path) -> list[str]:
    """Pictures that say nothing to who cannot see them."""
    return [
        f"{path}: {picture.get('src', '')[:80]} has no alt text"
        for path, page in pages(site).items()
        for picture in page.all("img")
        if not picture.get("alt", "").strip()
    ]


def outside_requests(site: Path) -> list[str]:
    """Scripts, styles, pictures and fonts that come from elsewhere."""
    problems = []
    for path, page in pages(site).items():
        urls = [
            url
            for tag, attributes in page.elements
            for url in _fetched(tag, attributes)
            if urlsplit(url).netloc
        ]
        styles = [page.texts["style"], *(each.get("style", "") for _, each in page.elements)]
        urls += [url for style in styles for url in _fetched_by_style(style)]
        problems += [f"{path}: fetches {url}" for url in urls]
    for path in sorted(site.rglob("*.css")):
        urls = _fetched_by_style(path.read_text(encoding="utf-8"))
        problems += [f"{path.relative_to(site)}: fetches {url}" for url in urls]
    return problems


def _fetched(tag: str, attributes: dict[str, str]) -> list[str]:
    if tag == "link" and set(attributes.get("rel", "").split()) & TOLD:
        return []
    return [attributes[name] for name in FETCHED.get(tag, []) if name in attributes]


def _fetched_by_style(style: str) -> list[str]:
    urls = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", style)
    return [url for pair in urls for url in pair if urlsplit(url).netloc]


def bad_headings(site: Path) -> list[str]:
    """Pages without a title and a description of their own, or without exactly one h1."""
    problems, seen = [], {}
    for path, page in pages(site).items():
        headings = len(page.all("h1"))
        if headings != 1:
            problems.append(f"{path}: {headings} h1")
        metas = {meta.get("name"): meta.get("content", "") for meta in page.all("meta")}
        for kind, text in (("title", page.texts["title"]), ("description", metas["description"])):
            if not text.strip():
                problems.append(f"{path}: no {kind}")
            elif (kind, text) in seen:
                problems.append(f"{path}: the {kind} of {seen[kind, text]}")
            seen[kind, text] = path
    return problems


CHECKS = (
    broken_links,
    unknown_tags,
    raw_markdown,
    pictures_without_text,
    outside_requests,
    bad_headings,
)


def browser_path() -> str | None:
    """An installed Chromium."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def served(site: Path):
    """Serve a site under the path that it will have, and give its address."""
    prefix = urlsplit(address(site)).path

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path):
            return super().translate_path("/" + path.removeprefix(prefix))

        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{prefix}"
        finally:
            server.shutdown()


@contextmanager
def opened(site: Path):
    """Open a site in a browser; gives its address, a tab, and the problems met from then on."""
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with served(site) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path())
        tab = browser.new_page()

        def told(what):
            problems.append(f"{tab.url.removeprefix(base) or 'home'}: {what}")

        def asked(request):
            if not request.url.startswith((base, "data:", "blob:")):
                told(f"asks for {request.url}")

        tab.on("request", asked)
        tab.on("pageerror", lambda error: told(f"script error: {error}"))
        tab.on("console", lambda entry: entry.type == "error" and told(f"console: {entry.text}"))
        try:
            yield base, tab, problems
        finally:
            browser.close()


def problems_of_opened_pages(site: Path) -> list[str]:
    """Script errors, outside requests, bad formulas, and pages that scroll sideways."""
    with opened(site) as (base, tab, problems):
        for path in pages(site):
            for width in WIDTHS:
                tab.set_viewport_size({"width": width, "height": 900})
                if width == WIDTHS[0]:
                    tab.goto(base + path.removesuffix("index.html"))
                excess = tab.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                if excess > 0:
                    problems.append(f"{path}: {excess} px too wide for {width} px")
            for text in tab.locator(".katex-error").all_text_contents():
                problems.append(f"{path}: formula {text!r}")
        return problems


def problems_of_search(site: Path, names: list[str]) -> list[str]:
    """Names of the API for which a search lists another page before those of the API."""
    with opened(site) as (base, tab, problems):
        for name in names:
            tab.goto(f"{base}?q={name}")
            results = tab.locator(".md-search-result__link")
            results.first.wait_for()
            first = urljoin(tab.url, results.first.get_attribute("href"))
            if not first.startswith(f"{base}api/"):
                problems.append(f"{name}: leads to {first.removeprefix(base)}")
        return problems


def problems_of_navigation(site: Path) -> list[str]:
    """Tabs that lead elsewhere, and next pages that do not lead back."""
    with opened(site) as (base, tab, problems):
        tab.set_viewport_size({"width": WIDTHS[-1], "height": 900})
        tab.goto(base)
        tabs = tab.locator(".md-tabs__item")
        for label in tabs.all_inner_texts():
            tabs.get_by_text(label, exact=True).click()
            before, active = tab.url, tab.locator(".md-tabs__item--active").inner_text()
            if active != label:
                problems.append(f"the tab {label} leads to {active}")
            forward = tab.locator(".md-footer__link--next")
            if forward.count():
                forward.click()
                back = tab.locator(".md-footer__link--prev").get_attribute("href")
                if urljoin(tab.url, back) != before:
                    problems.append(f"before the page after {before} is {back}")
        return problems


if __name__ == "__main__":
    found = [problem for check in CHECKS for problem in check(Path(sys.argv[1]))]
    print(*found, sep="\n")
    sys.exit(bool(found))
