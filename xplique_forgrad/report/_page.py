"""
A page of sections: one file of HTML that needs nothing else.
"""

from __future__ import annotations

import base64
import datetime
import functools
import io
import platform
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2
import pandas as pd

from .._files import check_file_name, replace_file
from ._tables import table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGES = ("xplique-forgrad", "xplique", "tensorflow", "keras", "numpy")
_SUFFIXES = (".html", ".htm")
# of the page, per inch of a figure; a screen of twice as many shows every pixel
_PIXELS_PER_INCH = 96
_SCALE = 2


@dataclass(frozen=True)
class Section:
    """
    A part of a report: a title, and what there is of the rest, in this order.

    Parameters
    ----------
    title
        Its heading.
    text
        Paragraphs, separated by blank lines.
    code
        A snippet to copy, or any text whose lines and spaces are kept.
    figure
        A matplotlib figure.
    caption
        What the figure shows: written below it, and read to those who cannot see it.
    table
        A pandas table. One of more than 12 rows is folded.
    is_open
        Whether such a table is shown all the same.

    Raises
    ------
    TypeError
        If a text is no string, the figure not of matplotlib, or the table not of pandas.
    """

    title: str
    text: str = ""
    code: str = ""
    figure: Figure | None = None
    caption: str = ""
    table: pd.DataFrame | None = None
    is_open: bool = False

    def __post_init__(self) -> None:
        for name in ("title", "text", "code", "caption"):
            _check_text(name, getattr(self, name))
        if self.figure is not None and not hasattr(self.figure, "savefig"):
            raise TypeError(
                f"`figure` is of type {type(self.figure).__name__}; give a matplotlib figure, such "
                "as ax.figure."
            )
        if self.table is not None and not isinstance(self.table, pd.DataFrame):
            raise TypeError(
                f"`table` is of type {type(self.table).__name__}; give a pandas DataFrame."
            )


def check_report_path(path: str | PathLike[str]) -> Path:
    """
    Check where a report shall go, before the work whose results it shows.

    Parameters
    ----------
    path
        File to write, in a folder that there is.

    Returns
    -------
    path :
        The path.

    Raises
    ------
    ValueError
        If its suffix is neither .html nor .htm, its folder is missing, or it is a folder.

    Examples
    --------
    >>> check_report_path("report.html").name
    'report.html'
    """
    checked = Path(path)
    check_file_name(checked)
    if checked.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"{checked} ends in {checked.suffix or 'no suffix'!r}; a report is a page: give a name "
            "such as report.html."
        )
    return checked


def write_report(
    path: str | PathLike[str],
    title: str,
    sections: Iterable[Section],
    *,
    summary: str = "",
    settings: Mapping[str, object] | None = None,
) -> Path:
    """
    Write one page of HTML that holds all it needs: no script, and nothing is fetched.

    Text is shown as it is written: tags in it are no tags. An older file stays whole until the new
    one is.

    Parameters
    ----------
    path
        File to write, such as "report.html".
    title
        Title of the page.
    sections
        Its parts; more than three get a table of contents.
    summary
        The verdict in one or two sentences, at the top.
    settings
        Names and values of what the results depend on, for a table at the end. The date and the
        versions of Python and the packages are added.

    Returns
    -------
    path :
        The file.

    Raises
    ------
    ValueError
        If the suffix is neither .html nor .htm, the folder is missing, or the path is a folder.
    TypeError
        If a section is no `Section`, or a text is no string.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(f"{folder}/maps.html", "Maps", [Section("One", "All is well.")])
    ...     "<p>All is well.</p>" in page.read_text(encoding="utf-8")
    True
    """
    checked = check_report_path(path)
    _check_text("title", title)
    _check_text("summary", summary)
    content = _page_template().render(
        title=title,
        summary=_paragraphs(summary),
        sections=[_drawn(section) for section in sections],
        settings={str(name): _in_words(value) for name, value in (settings or {}).items()},
        versions=_versions(),
    )
    replace_file(checked, content.encode())
    return checked


class _Image(NamedTuple):
    """A PNG as a data URI, and its size in pixels of the page."""

    uri: str
    width: int
    height: int


def _drawn(section: Section) -> dict[str, object]:
    """What the template shows of a section."""
    if not isinstance(section, Section):
        raise TypeError(
            f"`sections` holds a {type(section).__name__}; give sections, such as "
            "Section('Title', 'Text.')."
        )
    return {
        "title": section.title,
        "text": _paragraphs(section.text),
        "code": section.code,
        "image": None if section.figure is None else _image_of(section.figure),
        "caption": section.caption,
        "table": None if section.table is None else table_of(section.table),
        "is_open": section.is_open,
    }


def _image_of(figure: Figure) -> _Image:
    buffer = io.BytesIO()
    resolution = _SCALE * _PIXELS_PER_INCH
    figure.savefig(buffer, format="png", dpi=resolution, bbox_inches="tight")
    content = buffer.getvalue()
    # a PNG begins with 8 bytes of its own, and the length, name and content of its header
    width, height = struct.unpack(">II", content[16:24])
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    return _Image(uri, round(width / _SCALE), round(height / _SCALE))


def _versions() -> dict[str, str]:
    """The date, and what the page was made with; nothing of the machine."""
    found = {"date": datetime.date.today().isoformat(), "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # TensorFlow has other names too
            found[name] = "not known"
    return found


def _in_words(value: object) -> str:
    """A setting as text: what it holds, as few brackets as may be."""
    if isinstance(value, Mapping):
        parts = (
            f"{name} ({_in_words(item)})"
            if isinstance(item, Mapping)
            else f"{name}: {_in_words(item)}"
            for name, item in value.items()
        )
        return "; ".join(parts)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_in_words, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part]


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"`{name}` is of type {type(value).__name__}; give a string.")


@functools.lru_cache(maxsize=1)
def _page_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2")
