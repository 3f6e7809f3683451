"""
The reference holds every public name, and its docstrings say what the code does.

The sources are read as the site reads them, so nothing is imported.
"""

import ast
import re
import textwrap
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

griffe = pytest.importorskip("griffe", reason='griffe reads docstrings: pip install ".[docs]"')

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/api").glob("*.md"))


@lru_cache
def package():
    return griffe.load("xplique_forgrad", search_paths=[ROOT], docstring_parser="numpy")


def target(thing):
    return thing.final_target if thing.is_alias else thing


def found(path):
    """What an import path leads to, through imports and base classes."""
    thing = package()
    for name in path.split(".")[1:]:
        thing = target((thing.all_members if thing.is_class else thing.members)[name])
    return thing


def public_names():
    """`__all__` of the package and of its rooms; of rooms without one, what they define."""
    rooms = ast.literal_eval(str(package().attributes["_ROOMS"].value))
    for path in ("xplique_forgrad", *(f"xplique_forgrad.{room}" for room in rooms)):
        room = found(path)
        names = room.exports
        if names is None:
            own = {**room.functions, **room.classes}
            names = [name for name, thing in own.items() if not thing.is_alias and name[0] != "_"]
        yield from (f"{path}.{name}" for name in names)


def entries(page):
    """The import paths that a page documents, members of classes included."""
    text = page.read_text(encoding="utf-8") + "\n"
    for path, block in re.findall(r"^::: (\S+)\n((?: {4}.*\n)*)", text, re.M):
        yield path
        thing = found(path)
        members = (yaml.safe_load(block) or {}).get("options", {}).get("members")
        if members is None and thing.is_class:
            members = [
                name
                for name, member in thing.members.items()
                if name[0] != "_" and member.docstring and not member.is_alias
            ]
        yield from (f"{path}.{name}" for name in members or [])


def documented(*kinds):
    """Import paths of the functions, classes or attributes that stand on the pages."""
    paths = [path for page in PAGES for path in entries(page)]
    return [path for path in paths if any(getattr(found(path), f"is_{kind}") for kind in kinds)]


def section(thing, kind):
    parsed = thing.docstring.parsed if thing.docstring else []
    return [item for part in parsed if part.kind.value == kind for item in part.value]


def listed(thing, kind):
    """Names that a section documents, of which a line may hold more than one."""
    return [name.strip(" *") for item in section(thing, kind) for name in item.name.split(",")]


def parameters(thing):
    return [item.name for item in thing.parameters if item.name not in ("self", "cls")]


def fields(thing):
    """What a record holds, in the order of its definition."""
    return [
        name
        for name, member in thing.members.items()
        if member.is_attribute and member.annotation and "property" not in member.labels
    ]


def test_every_public_name_has_its_place_in_the_reference():
    on_pages = {found(path).path for page in PAGES for path in entries(page)}
    missing = [name for name in public_names() if found(name).path not in on_pages]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_says_what_it_holds(page):
    _, front, text = page.read_text(encoding="utf-8").split("---\n", 2)
    assert 40 <= len(yaml.safe_load(front)["description"]) <= 160
    introduction = text.split("```")[0].split(":::")[0]
    assert re.search(r"\]\(\.\./[\w/.#-]+\)", introduction), "link the guide that uses it"


@pytest.mark.parametrize("path", documented("function", "class"))
def test_the_parameters_are_those_of_the_signature(path):
    thing = found(path)
    if thing.is_class and section(thing, "attributes"):
        assert listed(thing, "attributes") == fields(thing)
    else:
        assert listed(thing, "parameters") == parameters(thing)


@pytest.mark.parametrize("path", documented("function"))
def test_what_is_returned_has_a_name_and_the_type_of_the_signature(path):
    function = found(path)
    returns = section(function, "returns")
    if str(function.returns) == "None":
        assert returns == []
        return
    names = [item.name for item in returns]
    assert names
    assert all(names), "write `name :` with a colon, or the name is taken for a type"
    types = [function.returns]
    if len(names) > 1:
        types = function.returns.slice.elements
    assert [str(item.annotation) for item in returns] == [str(annotation) for annotation in types]


def refuses(thing):
    """Whether the code itself raises, or calls a check of its arguments."""
    tree = ast.parse(textwrap.dedent(thing.source))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [getattr(call, "id", getattr(call, "attr", "")) for call in calls]
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree)) or any(
        re.match("_?check(ed)?_", name) for name in names
    )


@pytest.mark.parametrize("path", documented("function"))
def test_errors_are_documented(path):
    function = found(path)
    if refuses(function):
        assert section(function, "raises")


@pytest.mark.parametrize("path", documented("class"))
def test_errors_of_constructors_are_documented(path):
    thing = found(path)
    initialisers = [thing.all_members.get(name) for name in ("__init__", "__post_init__")]
    if any(refuses(target(method)) for method in initialisers if method and method.lineno):
        assert section(thing, "raises")


def test_docstrings_hold_nothing_that_markdown_takes_for_a_tag():
    for path in documented("function", "class", "attribute"):
        docstring = found(path).docstring
        text = re.split(r"\n *Examples\n", docstring.value if docstring else "")[0]
        assert not re.search(r"<[A-Za-z/]", re.sub(r"`[^`]*`", "", text)), path
