"""Notes and their diary entries, made from a seed: what the demo's writing model learns.

A note names an appointment as people do, and mostly things to bring. Its entry has the date in the
form of ISO 8601, who, what, and the things. Many notes have none or few, and some have many, so
that answers have many lengths.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

CORPUS_SEED = 1
CORPUS_ROWS = 2_000
TRAINING_SEED = 2
TRAINING_ROWS = 32_000
"""Chosen: as many as the demo's training reads once."""

MOST_THINGS = 9
FIRST, DAYS = date(2020, 1, 1), 3_650
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Karin",
    "Lena", "Maria", "Noah", "Olga", "Paul", "Rosa", "Simon", "Tara", "Viktor",
)  # fmt: skip
MATTERS = (
    "dentist", "dinner", "exam", "interview", "lesson", "lunch", "meeting", "rehearsal",
    "training", "visit",
)  # fmt: skip
THINGS = (
    "apples", "bread", "cake", "cheese", "chairs", "coffee", "contract", "cups", "drawings",
    "flowers", "folder", "glasses", "juice", "keys", "lamp", "laptop", "letters", "maps",
    "milk", "pens", "photos", "plates", "report", "tea", "umbrella",
)  # fmt: skip
PATTERNS = (
    "{matter} with {name} on {when}", "{name} has a {matter} on {when}",
    "On {when} {name} comes for a {matter}", "The {matter} of {name} is moved to {when}",
)  # fmt: skip
LISTS = ("Please bring {things}.", "Do not forget {things}!", "We need {things}.")
FORMS = ("{day} {month} {year}", "{month} {day}, {year}", "the {nth} of {month} {year}")


@dataclass(frozen=True, slots=True)
class Note:
    """One row."""

    id: str
    text: str
    entry: str
    """The right answer: `2026-03-09 Anna dinner: cake, cups`."""


def notes(seed: int, count: int) -> Iterator[Note]:
    """`count` notes, the same for the same seed; more of them begin with the same rows."""
    rng = random.Random(seed)
    for number in range(count):
        yield _note(rng, f"n-{number:06d}")


def write_notes(path: Path, seed: int, count: int) -> None:
    """The notes as Parquet, which appears whole or not at all; its folder is made if missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    pq.write_table(pa.Table.from_pylist([asdict(note) for note in notes(seed, count)]), unfinished)
    unfinished.replace(path)


def _note(rng: random.Random, row_id: str) -> Note:
    day = FIRST + timedelta(days=rng.randrange(DAYS))
    name, matter = rng.choice(NAMES), rng.choice(MATTERS)
    text = rng.choice(PATTERNS).format(matter=matter, name=name, when=_spelled(rng, day))
    entry = f"{day.isoformat()} {name} {matter}"
    things = rng.sample(THINGS, min(MOST_THINGS, int(rng.lognormvariate(0.4, 1.1))))
    if things:
        return Note(
            row_id, f"{text}. {_list(rng, things)}", f"{entry}: {', '.join(sorted(things))}"
        )
    return Note(row_id, f"{text}.", entry)


def _list(rng: random.Random, things: list[str]) -> str:
    *others, last = things
    listed = f"{', '.join(others)} and {last}" if others else last
    return rng.choice(LISTS).format(things=listed)


def _spelled(rng: random.Random, day: date) -> str:
    nth = f"{day.day}{_suffix(day.day)}"
    return rng.choice(FORMS).format(
        day=day.day, nth=nth, month=MONTHS[day.month - 1], year=day.year
    )


def _suffix(day: int) -> str:
    if day in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
