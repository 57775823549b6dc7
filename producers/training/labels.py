"""Turns labels of any type into a model's labels; decides the kind of problem, and warns of mistakes.

Pure: an Arrow column in, names and values out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from producers.quality.gold import texts_of
from schemas.errors import ColumnError
from schemas.records.training import Problem

MOST_LABELS = 1_000
FEW_ROWS = 20
RARE = 0.05
"""Share of the labelled rows under which a label is called rare."""
MISSPELT = 0.01
"""Share under which a label is compared with the common ones."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of all rows, in the model's terms."""

    problem: Problem
    names: tuple[str, ...]
    values: pa.Array
    """Text, list of texts or float64, `[rows]`; null: no label."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows by label; empty for a regression."""
    warnings: tuple[str, ...] = ()


def understand(
    column: Any, name: str, problem: Problem | None, renamed: Mapping[str, str]
) -> Labels:
    """The labels in a column: text, integers and booleans are classes, lists are several of them,
    and fractions are numbers to be predicted.

    Raises:
        ColumnError: no label, one label only, so many that they are ids, or two that differ in
            case or spaces alone; a type that is no label.
    """
    kind = column.type
    found = problem or problem_of(column)
    if found == "regression":
        return _numbers(column, name)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if found == "single_label":
            raise ColumnError(f"column {name!r} is {kind}: a list is for --problem multi-label")
        values = [None if v is None else _several(v, renamed) for v in column.to_pylist()]
        counts = Counter(label for row in values for label in row or ())
        array = pa.array(values, pa.list_(pa.string()))
    elif found == "multi_label":
        raise ColumnError(f"column {name!r} is {kind}: several labels of a row are a list")
    else:
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise ColumnError(f"column {name!r} is {kind}: labels are text, integers or booleans")
        texts = texts_of(column)
        renames = [None if t is None else renamed.get(t, t) for t in texts]
        counts = Counter(t for t in renames if t is not None)
        array = pa.array(renames, pa.string())
    names = _ordered(counts)
    _check(names, counts, name, len(array))
    return Labels(found, names, array, dict(counts), tuple(doubts(names, counts, name)))


def problem_of(column: Any) -> Problem:
    """The kind of problem: lists are several labels, fractions a regression, other values classes."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "multi_label"
    if pa.types.is_floating(kind):
        whole = pc.equal(pc.floor(column), column)
        return "single_label" if pc.all(whole, min_count=0).as_py() else "regression"
    return "single_label"


def _several(labels: Sequence[Any], renamed: Mapping[str, str]) -> list[str]:
    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in labels if v is not None]
    return list(dict.fromkeys(renamed.get(t, t) for t in texts))


def _numbers(column: Any, name: str) -> Labels:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise ColumnError(f"column {name!r} is {kind}: a regression needs numbers")
    values = column.cast(pa.float64())
    values = pc.if_else(pc.is_finite(values), values, None)
    if pc.count_distinct(values, mode="only_valid").as_py() < 2:
        raise ColumnError(f"column {name!r} has fewer than two different numbers to learn")
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return Labels("regression", (name,), array)


def _ordered(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Sorted as numbers if all are integers, else alphabetically."""
    try:
        return tuple(sorted(counts, key=int))
    except ValueError:
        return tuple(sorted(counts))


def _check(names: Sequence[str], counts: Mapping[str, int], column: str, rows: int) -> None:
    if not names:
        raise ColumnError(f"column {column!r} holds no label: every value is null")
    if len(names) == 1:
        raise ColumnError(
            f"column {column!r} holds one label only, {names[0]!r}: there is nothing to tell apart"
        )
    labelled = sum(counts.values())
    if len(names) > MOST_LABELS or (labelled >= FEW_ROWS and len(names) > labelled / 2):
        raise ColumnError(
            f"column {column!r} holds {len(names):,} different labels in {rows:,} rows: is it a "
            "column of ids or texts? The label's column is named by --label-column"
        )
    check_names_differ(names, counts, column)


def check_names_differ(names: Sequence[str], counts: Mapping[str, int], column: str) -> None:
    """Check that no two labels differ in case or spaces alone.

    Raises:
        ColumnError: two do.
    """
    alike: dict[str, list[str]] = {}
    for label in names:
        alike.setdefault(" ".join(label.split()).casefold(), []).append(label)
    for group in alike.values():
        if len(group) > 1:
            common = max(group, key=lambda label: counts[label])
            others = ",".join(f"{label}={common}" for label in group if label != common)
            raise ColumnError(
                f"column {column!r} has labels that differ in case or spaces alone: "
                f"{', '.join(map(repr, group))}. If they are one label: --map '{others}'"
            )


def doubts(
    names: Sequence[str], counts: Mapping[str, int], column: str, *, entities: bool = False
) -> Iterator[str]:
    """Warnings for labels that look like a misspelling of another, and for rare labels.

    `counts` are of rows, or of `entities`.
    """
    unit, of, advice = (
        ("entities", "the entities", "")
        if entities
        else (
            "rows",
            "the labelled rows",
            "; --class-weights balanced makes each label count the same",
        )
    )
    total = sum(counts.values())
    for label in names:
        near = _misspelling_of(label, counts, total)
        if near is not None:
            yield (
                f"label {label!r} ({counts[label]:,} {unit}) is nearly {near!r} "
                f"({counts[near]:,} {unit}): if it is misspelt, --map '{label}={near}'"
            )
    rare = [label for label in names if counts[label] / total < RARE]
    if rare:
        shown = ", ".join(f"{label} {counts[label] / total:.1%}" for label in rare[:SHOWN])
        more = f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else ""
        yield (f"under 5 % of {of} have {shown}{more}: the model will seldom say so{advice}")


def _misspelling_of(label: str, counts: Mapping[str, int], total: int) -> str | None:
    """A common label that differs in one letter, for a rare one of letters."""
    if counts[label] / total >= MISSPELT or len(label) < 4 or label.isdigit():
        return None
    common = [c for c in counts if counts[c] >= 10 * counts[label] and c != label]
    return next((c for c in common if _one_letter(label.casefold(), c.casefold())), None)


def _one_letter(a: str, b: str) -> bool:
    """Whether the two differ by one letter: added, left out, changed or swapped."""
    if abs(len(a) - len(b)) > 1 or len(b) < 4:
        return False
    start = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    a, b = a[start:], b[start:]
    swapped = len(a) >= 2 and a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights that balance the labels: rows / (labels x rows of the label).

    A label without rows has the weight 0.
    """
    present = sum(1 for count in counts if count)
    total = sum(counts)
    return tuple(round(total / (present * c), 6) if c else 0.0 for c in counts)
