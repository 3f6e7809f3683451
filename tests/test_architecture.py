"""
Imports point one way: filtering -> explainer -> registration -> demo, with no circle.
"""

import ast
from pathlib import Path

import xplique_forgrad

ROOT = Path(xplique_forgrad.__file__).parent

# every module of the package, and the modules of ours that it may import
ALLOWED = {
    "filtering": set(),
    "plots": set(),
    "explainer": {"filtering"},
    "registration": {"filtering", "explainer"},
    "demo": {"filtering", "plots"},
    "__init__": {"filtering", "explainer", "registration"},
    "__main__": {"demo"},
}


def top_level_module(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path):
    """(level, module) of every import: level 0 is absolute, 1 this package, 2 its parent."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


def test_imports_point_down_the_data_flow():
    for path in ROOT.rglob("*.py"):
        module = top_level_module(path)
        depth = len(path.relative_to(ROOT).parts)
        for level, name in imports(path):
            if level == depth:
                assert name.split(".")[0] in ALLOWED[module], f"{path} imports {name}"


def test_the_filter_needs_nothing_of_xplique():
    for path in (ROOT / "filtering").glob("*.py"):
        for level, name in imports(path):
            assert not name.startswith("xplique"), f"{path} imports {name}"
            assert level < 2


def test_only_the_demo_draws():
    for path in ROOT.rglob("*.py"):
        if top_level_module(path) not in ("demo", "plots"):
            assert not any("matplotlib" in name for _, name in imports(path))


def test_modules_are_small():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, path


def test_public_names_are_documented():
    for name in xplique_forgrad.__all__:
        documentation = getattr(xplique_forgrad, name).__doc__
        assert documentation
        if name not in ("register", "unregister"):
            for section in ("Parameters", "Examples"):
                assert section in documentation, f"{name} lacks {section}"
