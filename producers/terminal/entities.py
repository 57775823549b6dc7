"""An evaluation of entities, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.quality.entities import EntityCounts
from producers.quality.gold_entities import EvaluatedEntities
from producers.terminal.console import columns, grid, plain
from producers.terminal.evaluation import (
    about_job,
    job_row,
    label_numbers,
    label_table,
    slice_table,
    with_interval,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_CONFUSIONS = 10


def as_json(found: EvaluatedEntities) -> dict[str, Any]:
    """The object of `--json`."""
    return {
        **about_job(found.job),
        **_numbers(found.counts),
        "without_gold": found.without_gold,
        "without_prediction": found.without_prediction,
        "slices": {
            name: {value: _numbers(counts) for value, counts in sorted(by_value.items())}
            for name, by_value in found.slices.items()
        },
    }


def render_entities(found: EvaluatedEntities) -> RenderableType:
    """The overall numbers, each label, labels that are confused, and the slices."""
    from rich.console import Group

    counts, it, f1 = found.counts, found.counts.micro, found.counts.micro_f1
    rows = sum(counts.rows.values())
    parts: list[Any] = [
        grid([
            job_row(found.job),
            ("rows", f"{rows:,} with gold entities and a prediction"),
            ("entities", f"{it.support:,} gold, {sum(counts.predicted.values()):,} predicted, "
                         f"{sum(counts.right.values()):,} right in label and span"),
            ("precision", f"{it.precision:.4f}"),
            ("recall", f"{it.recall:.4f}"),
            ("F1", with_interval(f1)),
            ("macro F1", f"{counts.macro()[2]:.4f}"),
            ("left out", f"{found.without_gold:,} rows without gold entities, "
                         f"{found.without_prediction:,} error rows"),
        ])
    ]  # fmt: skip
    parts += [plain(""), label_table(counts.by_label, "entities")]
    if counts.confused:
        table = columns("gold", "predicted, on the same span", "entities")
        for (gold, predicted), n in counts.confused.most_common(MOST_CONFUSIONS):
            table.add_row(plain(gold), plain(predicted), f"{n:,}")
        parts += [plain(""), table]
    for name, by_value in found.slices.items():
        measured = {
            value: (sum(own.rows.values()), own.micro_f1) for value, own in by_value.items()
        }
        parts += [plain(""), slice_table(name, "F1", measured)]
    return Group(*parts)


def _numbers(counts: EntityCounts) -> dict[str, Any]:
    names = ("precision", "recall", "f1")
    it = counts.micro
    return {
        "rows": sum(counts.rows.values()),
        "micro": {"precision": it.precision, "recall": it.recall, "f1": it.f1,
                  "entities": it.support},
        "f1": counts.micro_f1.to_json(),
        "macro": dict(zip(names, counts.macro(), strict=True)),
        "weighted": dict(zip(names, counts.weighted(), strict=True)),
        "labels": label_numbers(counts.by_label, "entities"),
        "confused": [
            {"gold": gold, "predicted": predicted, "entities": n}
            for (gold, predicted), n in counts.confused.most_common()
        ],
    }  # fmt: skip
