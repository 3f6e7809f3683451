"""
Every example that a reader can copy runs, and the site of them is whole, as a browser sees it too.
"""

import doctest
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import site_checks

import xplique_forgrad

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
    *sorted((ROOT / "docs/api").glob("*.md")),
]
# public names that a search of the site must lead to
NAMES = [
    *("forgrad", "SigmaOptimizer", "SigmaSearch", "Deletion", "Insertion", "Faithfulness"),
    *("MuFidelity", "diagnose", "run_benchmark", "taylor_residual", "low_pass_mask"),
    *("load_imagenet", "image_folder"),
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


def test_a_page_that_lacks_a_package_is_built_without_its_outputs(examples):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    code = "raise ImportError(\"pip install 'xplique-forgrad[torch]'\")"
    text = f"# Title\n\n```python\n{code}\n```\n\n![What is seen](search.png)\n"
    shown = examples.on_page_markdown(text, page, None, None)
    assert "built without its outputs: pip install 'xplique-forgrad[torch]'" in shown
    assert "*Figure: What is seen.*" in shown
    assert "search.png" not in shown


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


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as built; what its examples gave was kept by the tests above."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def browsed(site):
    """The site, where there is a browser to look at it."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    if site_checks.browser_path() is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(site_checks.BROWSERS)}")
    return site


@pytest.mark.parametrize("check", site_checks.CHECKS, ids=lambda check: check.__name__)
def test_pages_have_no(check, site):
    problems = check(site)
    assert not problems, "\n".join(problems)


def test_pages_open_at_both_widths(browsed):
    problems = site_checks.problems_of_opened_pages(browsed)
    assert not problems, "\n".join(problems)


def test_search_leads_to_public_names(browsed):
    problems = site_checks.problems_of_search(browsed, NAMES)
    assert len(problems) <= 1, "\n".join(problems)


def test_navigation_leads_on(browsed):
    problems = site_checks.problems_of_navigation(browsed)
    assert not problems, "\n".join(problems)


def test_checks_find_what_is_wrong(tmp_path):
    head = '<link rel="canonical" href="https://x.org/y/"><meta name="description" content="d">'
    (tmp_path / "index.html").write_text(
        f'{head}<title>t</title><h1 id="top">Home</h1><a href="a/#there">a</a><a href="b/">b</a>'
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a/index.html").write_text(
        '<meta name="description" content="d"><title>s</title><h1>A</h1><h1>B</h1>'
        '<img src="https://x.org/z.png"><p>a <LP(g)> b [c](d.md) <code>**e**</code></p>'
        '<a href="../#top">up</a>'
        "<style>@import 'https://x.org/z.css'; p {background: url(https://x.org/p.png)}</style>"
    )
    found = {check.__name__: check(tmp_path) for check in site_checks.CHECKS}
    assert {name: len(problems) for name, problems in found.items()} == {
        "broken_links": 2,
        "unknown_tags": 1,
        "raw_markdown": 1,
        "pictures_without_text": 1,
        "outside_requests": 3,
        "bad_headings": 2,
    }
