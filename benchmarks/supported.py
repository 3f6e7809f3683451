"""
The table of docs/supported.md, of the cells that tests/test_kinds.py runs.

    python benchmarks/supported.py           # prints it
    python benchmarks/supported.py --docs docs
"""

import argparse
import itertools
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kinds import PARTS, NotTried, Refused
from test_kinds import KINDS

MARKS = "<!-- table of kinds -->", "<!-- end of the table -->"


def table():
    """The cells as Markdown: a table per section, and below it what messages and notes say."""
    lines = []
    for section, kinds in itertools.groupby(KINDS, lambda kind: kind.section):
        notes = []
        lines += [f"### {section}", "", "| |" + "|".join(f" {part} " for part in PARTS) + "|"]
        lines.append("|---" * (len(PARTS) + 1) + "|")
        for kind in kinds:
            words = [in_words(kind.cell(part), notes) for part in PARTS]
            lines.append("| " + " | ".join([kind.name, *words]) + " |")
        lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""]
    return "\n".join(lines).strip()


def in_words(cell, notes):
    """A cell in a word, with the number of its note."""
    if isinstance(cell, Refused):
        word, note = "refused", f"“{cell.message}” {cell.note}".strip()
    elif isinstance(cell, NotTried):
        word, note = "not tried", cell.reason
    else:
        word, note = "works", cell.note
    if not note:
        return word
    if note not in notes:
        notes.append(note)
    return f"{word} ({notes.index(note) + 1})"


def filled(page):
    """The page with the table between its marks."""
    begin, end = MARKS
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n\n{table()}\n\n{end}", page, flags=re.S)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--docs", type=Path, help="folder of the pages to write it to")
    arguments = parser.parse_args()
    if arguments.docs is None:
        print(table())
        return
    path = arguments.docs / "supported.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
