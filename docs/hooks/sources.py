"""
Makes pages of files that lie outside docs/: the tutorials' notebooks, and files of the root.

A hook of MkDocs. A notebook becomes Markdown: its text, its code, and below each cell what the cell
gave when it ran. Links of a notebook, and of a file of the root, become links between pages.
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
# files of the root, and the pages that show them
PAGES = {
    "CHANGELOG.md": "about/changelog.md",
    "CONTRIBUTING.md": "about/contributing.md",
    "CITATION.cff": "about/cite.md",
}
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"

_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_STYLE = re.compile(r"<style.*?</style>", re.S)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m|^.*\r(?!\n)", re.M)
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg"}


def on_files(files, config):
    """Make a page of each notebook."""
    notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
    for file in notebooks:
        file.is_documentation_page = lambda: True
        for name in ("dest_uri", "url", "abs_dest_path"):  # those of a file that is copied
            vars(file).pop(name, None)
    for file in notebooks:
        cells = json.loads(file.content_string)["cells"]
        stem = posixpath.splitext(file.src_uri)[0]
        texts, pictures, heading = [], {}, ""
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                heading = (_HEADING.findall(source) or [heading])[-1].replace("`", "")
                texts.append(relinked(source, file.src_uri, config, files))
                continue
            texts.append(f"````py\n{source}\n````")
            alt = cell["metadata"].get("alt", f"Figure of “{heading}”, drawn by the code above")
            for output in _joined(cell.get("outputs", [])):
                texts.append(_output(output, stem, alt, pictures))
        file.content_string = "\n\n".join(texts)
        file.edit_uri = f"../{file.src_uri}"
        for uri, content in pictures.items():
            files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Put the text of a file of the root on its page."""
    for name, source in PAGES.items():
        if page.file.src_uri == source and name.endswith(".md"):
            page.edit_url = f"{config.repo_url}/edit/main/{name}"
            markdown = relinked(
                (ROOT / name).read_text(encoding="utf-8"), source, config, files, ""
            )
    return markdown


def _joined(outputs: list[dict]) -> list[dict]:
    """Outputs of a cell, with one for what was printed in a row."""
    joined = []
    for output in outputs:
        if joined and output["output_type"] == joined[-1]["output_type"] == "stream":
            joined[-1] = {**output, "text": [*joined[-1]["text"], *output["text"]]}
        else:
            joined.append(output)
    return joined


def _output(output: dict, stem: str, alt: str, pictures: dict[str, bytes]) -> str:
    """What a cell gave, as Markdown; a picture is added to `pictures`."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    for kind, extension in _EXTENSIONS.items():
        if kind in data:
            uri = f"{stem}-{len(pictures) + 1}.{extension}"
            pictures[uri] = base64.b64decode("".join(data[kind]))
            return f"![{alt}]({posixpath.basename(uri)})"
    if "text/html" in data:
        html = re.sub(r"<table[^>]*>", "<table>", _STYLE.sub("", "".join(data["text/html"])))
        return '<div class="output-table">' + re.sub(r"\n\s*\n", "\n", html) + "</div>"
    text = _ESCAPES.sub("", "".join(data["text/plain"])).rstrip()
    return f"````{{.text .output}}\n{text}\n````" if text else ""


def relinked(markdown: str, page: str, config, files, folder: str | None = None) -> str:
    """
    Point links at sources of pages.

    Parameters
    ----------
    markdown
        A text with links that are relative to a folder of the repository, or lead to the site.
    page
        Source of the page that the text is shown on, relative to docs/.
    folder
        Where links start from, relative to the root. That of the page by default.
    """
    folder = posixpath.dirname(page) if folder is None else folder
    pages = {file.url: file.src_uri for file in files.documentation_pages()}
    site = config.site_url.removesuffix(f"{os.environ.get('MIKE_DOCS_VERSION')}/")

    def target(link):
        if link == BADGE:
            return "assets/colab-badge.svg"
        if link.startswith(site):
            return pages.get(link.removeprefix(site) or "./")
        if ":" in link:
            return None
        path = posixpath.normpath(posixpath.join(folder, link))
        path = PAGES.get(path, path).removeprefix("docs/")
        return path if files.get_file_from_path(path) else f"{config.repo_url}/blob/main/{path}"

    def replaced(match):
        uri = target(match[2])
        if uri is None:
            return match[0]
        if ":" not in uri:
            uri = posixpath.relpath(uri, posixpath.dirname(page))
        return match[1] + uri + match[3]

    return _LINK.sub(replaced, markdown)
