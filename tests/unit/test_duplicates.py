"""No piece of code stands twice: what is the same in two places has one owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from tests.unit.import_graph import PACKAGES, ROOT, files

LINES = 7
LETTERS = 160
"""Chosen: seven lines of this much text are more than a signature and its closing brackets."""


def repeated(sources: Mapping[str, str]) -> list[list[str]]:
    """The places, as `file:line`, of each run of lines that stands in two of them."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for file, source in sources.items():
        lines = [line.strip() for line in source.splitlines()]
        for at in range(len(lines) - LINES + 1):
            run = tuple(lines[at : at + LINES])
            is_import = any(line.startswith(("from ", "import ")) for line in run)
            if sum(map(len, run)) >= LETTERS and not is_import:
                places[run].append(f"{file}:{at + 1}")
    return [found for found in places.values() if len(found) > 1]


def test_no_piece_of_code_stands_twice() -> None:
    paths = [path for package in PACKAGES for path in files(package)]
    assert repeated({str(p.relative_to(ROOT)): p.read_text() for p in paths}) == []


def test_a_piece_that_stands_twice_is_seen() -> None:
    piece = "\n".join(f"    total += weights[{i}] * numbers[{i}]" for i in range(LINES))
    assert repeated({"a.py": f"def a():\n{piece}", "b.py": f"def b(x):\n{piece}\nreturn 1"}) == [
        ["a.py:2", "b.py:2"]
    ]
