"""
Runs the Python examples of the pages, and shows below each what it prints.

A hook of MkDocs, which the tests use too. The blocks ```python of a page run in order, in one
namespace and in an empty folder (those ```py do not run). What a block prints stands below it. A
picture that a page shows and its code saves, such as `![curves](search.png)`, is the one that was
saved. What a page gave is kept in .cache/examples until its code or the package changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import posixpath
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/examples"
LIBRARIES = ("keras", "matplotlib", "numpy", "scikit-image", "tensorflow", "xplique")
# packages that an extra brings
EXTRAS = {"torch": "torch", "keras_cv": "keras-cv", "keras_hub": "keras-hub"}

_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.M | re.S)
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([\w-]+\.(?:png|jpg))\)")
_log = logging.getLogger("mkdocs.hooks.examples")


class Outputs(NamedTuple):
    """What the blocks of a page print, and the pictures that they save, by name."""

    printed: list[str]
    pictures: dict[str, bytes]


class MissingExtraError(Exception):
    """A page needs a package that is not installed."""


def on_page_markdown(markdown, page, config, files):
    """Put outputs below the blocks of a page."""
    if not _BLOCK.search(markdown):
        return markdown
    source = page.file.src_uri
    try:
        found = outputs(markdown, source)
    except MissingExtraError as error:
        _log.info("%s was not run: %s", source, error)
        note = f"\n!!! note\n\n    This page was built without its outputs: {error}\n\n"
        # what the code would save, in words
        markdown = _PICTURE.sub(r"*Figure: \1.*", markdown)
        return re.sub(r"(^# .*\n)", lambda title: title[0] + note, markdown, count=1, flags=re.M)
    except Exception as error:
        raise PluginError(f"An example of {source} fails: {error!r}") from error
    folder = f"examples/{posixpath.splitext(source)[0].replace('/', '-')}"

    def shown(match):
        name = match[2]
        if name not in found.pictures:
            return match[0]
        uri = f"{folder}-{name}"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=found.pictures[name]))
        link = posixpath.relpath(uri, posixpath.dirname(source) or ".")
        return f"![{match[1]}]({link})"

    return _PICTURE.sub(shown, _with_outputs(markdown, found.printed))


def _with_outputs(markdown: str, printed: list[str]) -> str:
    texts = iter(printed)

    def below(match):
        text = next(texts).rstrip()
        # sentences break lines on a narrow page, tables scroll
        kind = "" if re.search(r"\S {2,}\S", text) else " .sentences"
        return f"{match[0]}\n```{{.text .output{kind}}}\n{text}\n```\n" if text else match[0]

    return _BLOCK.sub(below, markdown)


def outputs(markdown: str, name: str) -> Outputs:
    """
    What the examples of a page give, from the cache if nothing changed.

    Raises
    ------
    MissingExtraError
        If a package that an extra brings is not installed.
    """
    blocks = _BLOCK.findall(markdown)
    kept = CACHE / f"{name.replace('/', '-')}-{_key(blocks)}"
    if not (kept / "printed.json").exists():
        printed, pictures = _run(blocks, name)
        kept.mkdir(parents=True, exist_ok=True)
        for picture, content in pictures.items():
            (kept / picture).write_bytes(content)
        # last, so that what was cut off is no cache
        (kept / "printed.json").write_text(json.dumps(printed), encoding="utf-8")
    pictures = {
        path.name: path.read_bytes() for path in kept.iterdir() if path.suffix in (".png", ".jpg")
    }
    return Outputs(json.loads((kept / "printed.json").read_text(encoding="utf-8")), pictures)


def _key(blocks: list[str]) -> str:
    digest = hashlib.sha256(json.dumps([blocks, *map(version, LIBRARIES)]).encode())
    for path in sorted((ROOT / "xplique_forgrad").rglob("*.*")):
        if path.suffix in (".py", ".npz", ".csv", ".j2"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _run(blocks: list[str], name: str) -> Outputs:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import tensorflow as tf

    import xplique_forgrad

    namespace = {"__name__": "__page__"}
    printed = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks:
                with contextlib.redirect_stdout(io.StringIO()) as stream:
                    exec(compile(block, name, "exec"), namespace)
                printed.append(stream.getvalue())
            saved = [path for path in Path().iterdir() if path.suffix in (".png", ".jpg")]
            return Outputs(printed, {path.name: path.read_bytes() for path in saved})
        except ImportError as error:
            missing = str(error)
            if error.name in EXTRAS:
                missing = f"pip install 'xplique-forgrad[{EXTRAS[error.name]}]'"
            elif "xplique-forgrad[" not in missing:
                raise
            raise MissingExtraError(missing) from error
        finally:
            os.chdir(before)
            plt.close("all")
            # the wrapper of PyTorch sets it for the whole process
            tf.config.run_functions_eagerly(False)
            xplique_forgrad.unregister()
            xplique_forgrad.register()
