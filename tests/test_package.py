import subprocess
import sys
from pathlib import Path

import pytest

import xplique_forgrad

ROOMS = (
    *("benchmark", "decisions", "demo", "filtering", "images", "layers", "linearization"),
    *("metrics", "networks", "plots", "report", "search", "spectrum", "theory"),
)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_attributes_alike(room):
    assert getattr(xplique_forgrad, room) is sys.modules[f"xplique_forgrad.{room}"]
    assert room in dir(xplique_forgrad)


def test_the_list_of_rooms_is_complete():
    root = xplique_forgrad.__path__[0]
    found = {path.stem for path in (*Path(root).glob("[a-z]*.py"), *Path(root).glob("[a-z]*/"))}
    assert found - {"cli", "explainer", "optimizer", "registration"} == {*ROOMS}


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="'xplique_forgrad' has no attribute 'plot'"):
        _ = xplique_forgrad.plot


def test_import_takes_no_room_that_is_not_asked_for():
    script = """
import sys, xplique
theirs = {*sys.modules}
import xplique_forgrad
ours = {*sys.modules} - theirs
lazy = {"benchmark", "decisions", "demo", "images", "layers", "linearization", "networks"}
lazy |= {"plots", "report", "theory"}
assert not {name.split(".")[1] for name in ours if name.startswith("xplique_forgrad.")} & lazy
assert not any(name.startswith("matplotlib") for name in ours)
assert lazy <= {*dir(xplique_forgrad)}
assert callable(xplique_forgrad.plots.plot_maps)
assert "xplique_forgrad.plots" in sys.modules
assert "xplique_forgrad.theory" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
