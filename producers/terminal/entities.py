"""An evaluation of entities, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.quality.classification import LabelScores
from producers.quality.entities import EntityCounts
from producers.quality.gold_entities import EvaluatedEntities
from producers.terminal.console import columns, grid, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_CONFUSIONS = 10


def as_json(found: EvaluatedEntities) -> dict[str, Any]:
    """The object of `--json`."""
    return {
        "job": found.job.id,
        "output": found.job.output,
        "model": found.job.spec.model.model_dump(),
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
            ("job", f"{found.job.id} in {found.job.output}"),
            ("rows", f"{rows:,} with gold entities and a prediction"),
            ("entities", f"{it.support:,} gold, {sum(counts.predicted.values()):,} predicted, "
                         f"{sum(counts.right.values()):,} right in label and span"),
            ("precision", f"{it.precision:.4f}"),
            ("recall", f"{it.recall:.4f}"),
            ("F1", f"{f1.value:.4f}, 95 % interval {f1.low:.4f} to {f1.high:.4f}"),
            ("macro F1", f"{counts.macro()[2]:.4f}"),
            ("left out", f"{found.without_gold:,} rows without gold entities, "
                         f"{found.without_prediction:,} error rows"),
        ])
    ]  # fmt: skip
    parts += [plain(""), _by_label(counts.by_label)]
    if counts.confused:
        table = columns("gold", "predicted, on the same span", "entities")
        for (gold, predicted), n in counts.confused.most_common(MOST_CONFUSIONS):
            table.add_row(plain(gold), plain(predicted), f"{n:,}")
        parts += [plain(""), table]
    for name, by_value in found.slices.items():
        table = columns(name, "rows", "F1", "95 % interval")
        for value, own in sorted(by_value.items()):
            f = own.micro_f1
            shown = (
                f"{sum(own.rows.values()):,}",
                f"{f.value:.4f}",
                f"{f.low:.4f} to {f.high:.4f}",
            )
            table.add_row(plain(value), *shown)
        parts += [plain(""), table]
    return Group(*parts)


def _by_label(scores: tuple[LabelScores, ...]) -> Any:
    table = columns("label", "precision", "recall", "F1", "entities")
    for s in scores:
        numbers = (f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}", f"{s.support:,}")
        table.add_row(plain(s.label), *numbers)
    return table


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
        "labels": [
            {"label": s.label, "precision": s.precision, "recall": s.recall, "f1": s.f1,
             "entities": s.support}
            for s in counts.by_label
        ],
        "confused": [
            {"gold": gold, "predicted": predicted, "entities": n}
            for (gold, predicted), n in counts.confused.most_common()
        ],
    }  # fmt: skip
