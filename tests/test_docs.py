"""
Every example that a reader can copy runs: README, docs, docstrings, and the tutorials' plain facts.
"""

import doctest
import importlib.util
import json
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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
class TestNotebooks:
    def test_is_small_opens_in_colab_and_installs(self, notebook):
        cells = _cells(notebook)
        assert notebook.stat().st_size < 1_000_000
        badge = "https://colab.research.google.com/assets/colab-badge.svg"
        there = f"xplique-forgrad/xplique-forgrad/blob/main/tutorials/{notebook.name}"
        link = f"[![Open in Colab]({badge})](https://colab.research.google.com/github/{there})"
        assert link in "".join(cells[0]["source"]).splitlines()
        assert any("pip install" in "".join(cell["source"]) for cell in cells)

    def test_was_run_in_order_without_errors_warnings_or_paths_of_a_machine(self, notebook):
        code = [cell for cell in _cells(notebook) if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        for output in (output for cell in code for output in cell["outputs"]):
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            text = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            assert not re.search(r"WARNING|cuInit|(/home|/root|/tmp|/work|/Users)/", text)

    def test_cells_that_draw_say_what_is_seen(self, notebook):
        drawing = [cell for cell in _cells(notebook) if "image/" in json.dumps(cell.get("outputs"))]
        assert drawing
        # where nbconvert looks for it; it stays when the notebook is run anew
        assert all(len(cell["metadata"].get("alt", "")) > 20 for cell in drawing)

    def test_links_lead_to_pages_of_the_site(self, notebook):
        # a relative link cannot lead to the same page on the site, on GitHub and on Colab
        site = "https://xplique-forgrad.github.io/xplique-forgrad/"
        prose = [cell["source"] for cell in _cells(notebook) if cell["cell_type"] == "markdown"]
        targets = re.findall(r"\]\(([^)\s]+)\)", "\n".join(map("".join, prose)))
        assert all(target.startswith("https://") for target in targets)
        pages = [t.removeprefix(site).partition("#")[0] for t in targets if t.startswith(site)]
        assert len(pages) > 2
        for page in pages:
            path = ROOT / "docs" / page.rstrip("/")
            found = [path.with_name(path.name + ending).is_file() for ending in (".md", ".ipynb")]
            assert any(found), f"{notebook.name} links to {page}"


def _cells(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]
