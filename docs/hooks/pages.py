"""
Finishes the pages of the site.

A hook of MkDocs. A page without a description gets its first sentences. A number and its error
stay on one line. The selector of versions is there only where mike deploys them.
"""

from __future__ import annotations

import html
import os
import re

DESCRIPTION_LENGTH = 180

_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.S)
_TAG = re.compile(r"<[^>]*>")
_PRE = re.compile(r"(<pre.*?</pre>)", re.S)
_ERROR = re.compile(r"(?<=[\d.%]) ± (?=[\d.])")


def on_config(config):
    """Drop the selector of versions, which asks for a list that only mike writes."""
    if "MIKE_DOCS_VERSION" in os.environ:
        config.site_url = config.site_url.rstrip("/") + "/"  # mike adds the version without it
    else:
        config.extra.pop("version", None)
    return config


def on_page_content(content, page, config, files):
    """Give the page a description, and tie numbers to their errors."""
    page.meta["description"] = html.escape(page.meta.get("description") or _summary(content))
    parts = _PRE.split(content)
    parts[::2] = [_ERROR.sub("\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", part) for part in parts[::2]]
    return "".join(parts)


def _summary(content: str) -> str:
    """The first sentences of a page, as many as fit into a description."""
    texts = (
        " ".join(html.unescape(_TAG.sub("", text)).split()) for text in _PARAGRAPH.findall(content)
    )
    sentences = re.split(r"(?<=[.:?!]) ", next(filter(None, texts), ""))
    summary = sentences[0]
    for sentence in sentences[1:]:
        if len(summary) + len(sentence) >= DESCRIPTION_LENGTH:
            break
        summary += f" {sentence}"
    return summary
