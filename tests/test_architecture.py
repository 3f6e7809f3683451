"""
Imports point one way: filtering -> spectrum -> metrics -> search -> optimizer -> demo, and
filtering -> spectrum -> layers, with no circle.
"""

import ast
from pathlib import Path

import xplique_forgrad

ROOT = Path(xplique_forgrad.__file__).parent

# what any module but the filter may import
SHARED = {"_checks", "_notices", "_progress", "_statistics"}
# every module of the package, and the modules of ours that it may import
ALLOWED = {
    "_checks": set(),
    "_files": set(),
    "_notices": set(),
    "_progress": set(),
    "_replicas": set(),
    "_statistics": set(),
    "filtering": {"_checks", "_notices"},
    "images": {"_checks", "_notices"},
    "plots": {"_statistics"},
    # results come to it as they are: it knows their names, not their classes
    "report": {"_files"},
    "_models": {"_checks"},
    "_explainers": {"_models", "_notices"},
    "_ranges": {"_notices"},
    "_samples": {"_checks", "_models"},
    "_tasks": {"_checks", "_models", "_samples"},
    "_gradients": {*SHARED, "_models", "_ranges", "_samples", "_tasks"},
    "spectrum": {*SHARED, "filtering"},
    "theory": {*SHARED, "filtering"},
    "linearization": {*SHARED, "filtering", "_gradients", "_samples"},
    # plots: only Diagnosis.plot, when it is called
    "layers": {
        *(*SHARED, "filtering", "_gradients", "_models", "_samples", "_tasks", "spectrum"),
        "plots",
    },
    "metrics": {
        *(*SHARED, "filtering", "_models", "_ranges", "_replicas", "_samples", "_tasks"),
        "spectrum",
    },
    "explainer": {
        *(*SHARED, "filtering", "_explainers", "_models", "_ranges", "_samples", "_tasks"),
    },
    # plots: only SigmaSearch.plot, when it is called; layers: only for an untrained copy
    "search": {
        *(*SHARED, "_files", "filtering", "_models", "_ranges", "_replicas", "_samples"),
        *("_explainers", "_tasks", "metrics"),
        *("layers", "plots"),
    },
    "optimizer": {"_notices", "_progress", "search"},
    # plots: only DecisionRelevance.plot, when it is called
    "decisions": {*SHARED, "filtering", "_gradients", "_samples", "plots"},
    "registration": {"filtering", "explainer", "metrics"},
    "demo": {"filtering", "optimizer", "plots"},
    "networks": {"images", "_models", "_ranges"},
    # plots and report: only to draw and to write a page, when that is asked for
    "benchmark": {
        *(*SHARED, "_files", "filtering", "_models", "_samples", "spectrum", "metrics", "search"),
        *("_explainers", "optimizer", "plots", "report", "_replicas"),
    },
    # on top: the rooms of its commands
    "cli": {
        *(
            "__version__",
            "_files",
            "_notices",
            "_ranges",
            "_samples",
            "benchmark",
            "demo",
            "filtering",
            "images",
            "layers",
        ),
        *("networks", "optimizer", "plots", "report", "search"),
    },
    # names first; rooms as a whole when they are asked for
    "__init__": {
        *("filtering", "explainer", "metrics", "optimizer", "registration", "search"),
        *("benchmark", "decisions", "demo", "images", "layers", "linearization", "networks"),
        *("plots", "report", "spectrum", "theory", "_startup"),
    },
    "_startup": set(),
    "__main__": {"cli"},
}


def top_level_module(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path):
    """(level, module) of every import: level 0 is absolute, 1 this package, 2 its parent."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


def test_imports_point_down_the_data_flow():
    for path in ROOT.rglob("*.py"):
        module = top_level_module(path)
        depth = len(path.relative_to(ROOT).parts)
        for level, name in imports(path):
            if level == depth:
                assert name.split(".")[0] in ALLOWED[module], f"{path} imports {name}"


# the search's own modules: each imports only those before it
SEARCH = (
    *("_seeds", "_candidates", "_explaining", "_description", "_record", "_gains", "racing"),
    *("_settings", "controls", "_board", "_checkpoint", "objectives", "_panel", "_loop"),
    *("_callbacks", "_setup"),
    *("_summary", "_result", "_run", "__init__"),
)


def test_a_search_goes_through_its_modules_once():
    assert sorted(SEARCH) == sorted(path.stem for path in (ROOT / "search").glob("*.py"))
    for path in (ROOT / "search").glob("*.py"):
        before = SEARCH[: SEARCH.index(path.stem)]
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                assert node.module in before, f"{path.stem} imports {node.module}"


def test_a_race_knows_nothing_of_images_models_or_files():
    allowed = {"__future__", "itertools", "collections", "typing", "numpy", "scipy", "dataclasses"}
    for module in ("racing", "_gains"):
        found = {
            (level, name.split(".")[0]) for level, name in imports(ROOT / f"search/{module}.py")
        }
        own = {name for level, name in found if level}
        assert own <= {"_gains", "_statistics"}
        assert {name for level, name in found if not level} <= allowed


def test_the_filter_needs_nothing_of_xplique():
    for path in (ROOT / "filtering").glob("*.py"):
        for level, name in imports(path):
            assert not name.startswith("xplique"), f"{path} imports {name}"
            assert level < 2 or name in ("_checks", "_notices")


def test_only_the_demo_draws():
    for path in ROOT.rglob("*.py"):
        # a report is given figures: it names their type, and closes those of its results
        if top_level_module(path) not in ("cli", "demo", "plots", "report"):
            assert not any("matplotlib" in name for _, name in imports(path))


def test_a_report_is_written_without_drawing():
    for path in (ROOT / "report").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_import = isinstance(node, (ast.Import, ast.ImportFrom))
            assert not (is_import and "matplotlib" in ast.unparse(node)), path


def test_drawing_is_imported_only_to_draw():
    rooms = ("search", "layers", "benchmark")
    for path in (path for room in rooms for path in (ROOT / room).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert not (isinstance(node, ast.ImportFrom) and node.module == "plots"), path


def test_public_names_are_documented():
    for name in xplique_forgrad.__all__:
        documentation = getattr(xplique_forgrad, name).__doc__
        assert documentation
        if name not in ("register", "unregister"):
            assert "Parameters" in documentation, f"{name} lacks Parameters"
        if name not in ("register", "unregister", "SigmaSearch"):
            assert "Examples" in documentation, f"{name} lacks Examples"
