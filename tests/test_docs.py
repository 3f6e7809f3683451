"""
Every example that a reader can copy runs: README, docs, docstrings, and the tutorials' plain facts.
"""

import doctest
import importlib
import json
import os
import pkgutil
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import tensorflow as tf

import xplique_forgrad

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
    *sorted((ROOT / "docs/api").glob("*.md")),
]
EXTRAS = ("torch", "keras_cv", "keras_hub")
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
MODULES = [
    module.name
    for module in pkgutil.walk_packages(xplique_forgrad.__path__, "xplique_forgrad.")
    if not module.name.endswith("__main__")
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__page__"}
    try:
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)
    except ImportError as error:
        # what an extra brings
        if error.name not in EXTRAS and "xplique-forgrad[" not in str(error):
            raise
        pytest.skip(str(error))
    finally:
        plt.close("all")
        # the wrapper of PyTorch sets it for the whole process
        tf.config.run_functions_eagerly(False)
        xplique_forgrad.unregister()
        xplique_forgrad.register()


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    results = doctest.testmod(importlib.import_module(name))
    plt.close("all")
    assert results.failed == 0


def test_shell_blocks_are_the_two_commands_of_the_project():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```bash\n(.*?)^```", readme, re.M | re.S)
    assert "pip install . && python -m xplique_forgrad\n" in commands
    assert 'pip install -e ".[tests]" && pytest\n' in commands


def test_links_to_files_of_the_repository_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", text):
            path = page.parent / target
            assert path.is_dir() or path.stat().st_size > 0, f"{page.name} links to {target}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_notebooks_are_small_and_open_in_colab(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert os.path.getsize(notebook) < 1_000_000
    assert f"/blob/main/tutorials/{notebook.name}" in "".join(cells[0]["source"])
    assert any("pip install" in "".join(cell["source"]) for cell in cells)
    assert not any(
        output["output_type"] == "error" for cell in cells for output in cell.get("outputs", [])
    )
