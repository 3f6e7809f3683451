"""
Every example that a reader can copy runs: README, docs, docstrings, and the tutorials' plain facts.
"""

import doctest
import importlib.util
import json
import os
import pkgutil
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import xplique_forgrad

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
    *sorted((ROOT / "docs/api").glob("*.md")),
]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
MODULES = [
    module.name
    for module in pkgutil.walk_packages(xplique_forgrad.__path__, "xplique_forgrad.")
    if not module.name.endswith("__main__")
]


@pytest.fixture(scope="module")
def examples():
    """The hook of the site that runs the examples of pages."""
    path = ROOT / "docs/hooks/examples.py"
    specification = importlib.util.spec_from_file_location("examples", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run_and_save_what_the_page_shows(page, examples):
    text = page.read_text(encoding="utf-8")
    try:
        found = examples.outputs(text, page.relative_to(ROOT).as_posix().removeprefix("docs/"))
    except examples.MissingExtraError as error:
        pytest.skip(str(error))
    for name in re.findall(r"!\[[^\]]*\]\(([\w.-]+)\)", text):
        assert name in found.pictures, f"{page.name} shows {name}, which no example saves"


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
        # names alone are pictures that the examples save
        links = re.findall(r"(!?)\[[^\]]*\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", text)
        for is_picture, target in links:
            if is_picture and "/" not in target:
                continue
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
