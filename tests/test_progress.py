"""
Progress as Keras shows it: a bar, lines, or nothing.
"""

import re
import sys

import numpy as np
import pytest

from xplique_forgrad import SigmaOptimizer
from xplique_forgrad._progress import Progress, checked_verbose


def test_auto_draws_a_bar_where_one_can_be_drawn(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert checked_verbose("auto") == 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert checked_verbose("auto") == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    assert checked_verbose("auto") == 1


def test_numbers_are_those_of_keras():
    assert [checked_verbose(value) for value in (0, 1, np.int64(2), True)] == [0, 1, 2, 1]
    for value in (3, -1, 1.0, "much", None):
        with pytest.raises(ValueError, match="`verbose` is"):
            checked_verbose(value)
    with pytest.raises(ValueError, match="`verbose` is 'much'"):
        SigmaOptimizer(None).search(np.ones((2, 8, 8, 1)), verbose="much")


def shown(verbose, capsys):
    progress = Progress(5, verbose)
    for part, nb_batches in (("first", 2), ("second", 3)):
        progress.begin(part)
        for _ in range(nb_batches):
            progress.step()
    return capsys.readouterr().out


def test_a_line_a_part(capsys):
    lines = shown(2, capsys).splitlines()
    assert lines[:2] == ["0/5 first ...", "2/5 second ..."]
    assert lines[2].startswith("5/5")
    assert len(lines) == 3


def test_a_bar_that_stands_there_from_the_start(capsys):
    counts = re.findall(r"(\d)/5", shown(1, capsys))
    assert (counts[0], counts[-1]) == ("0", "5")


def test_nothing(capsys):
    assert shown(0, capsys) == ""
