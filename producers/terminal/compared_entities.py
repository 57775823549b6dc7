"""A comparison of the entities in two outputs, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.quality.pairs.compared_entities import ChangedEntity, ComparedEntities
from producers.quality.pairs.entity_changes import Change, PairedEntities, f1s_of
from producers.terminal.comparison import (
    SHOWN,
    cost_rows,
    head_numbers,
    head_rows,
    share,
    verdict_lines,
)
from producers.terminal.console import columns, grid, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

NONE = "–"
"""Shown where a model found no entity."""


def as_json(found: ComparedEntities, refused: list[str] | None) -> dict[str, Any]:
    """The object of `--json`."""
    agreement = found.agreement
    result: dict[str, Any] = {
        **head_numbers(found),
        "agreement_f1": agreement.f1,
        "flows": [{**_change(change), "entities": n} for change, n in agreement.flows],
        "surest_changes": [
            {"id": c.id, "text": c.text, **_change(c.change), "score": c.score}
            for c in found.surest
        ],
        "gold": None if found.paired is None else _paired(found.paired),
        "slices": {
            name: {value: _paired(paired) for value, paired in by_value.items()}
            for name, by_value in found.slices.items()
        },
    }
    if refused is not None:
        result["gate"] = {"passed": not refused, "refused": refused}
    return result


def render_compared_entities(found: ComparedEntities, refused: list[str] | None) -> RenderableType:
    """Which entities changed, which model finds more of the gold ones, and what the gate says."""
    from rich.console import Group

    agreement, paired = found.agreement, found.paired
    rows = [
        *head_rows(found, agreement.rows, "entities"),
        ("flips", f"{share(agreement.flips)} of texts"),
        ("same", f"F1 {agreement.f1:.4f} of B's entities with A's as right"),
    ]
    if paired is not None:
        a, b = paired.f1s
        gold = sum(hits.gold for hits in paired.by_label.values())
        rows += [
            ("F1", f"A {a.value:.4f}, B {b.value:.4f}, on {gold:,} gold entities in "
                   f"{paired.rows:,} texts"),
            ("B less A", _delta(paired)),
        ]  # fmt: skip
    parts: list[Any] = [grid([*rows, *cost_rows(found.costs)])]
    if agreement.flows:
        table = columns("from", "to", "entities")
        for change, n in agreement.flows[:SHOWN]:
            table.add_row(*_sides(change), f"{n:,}")
        parts += [plain(""), table]
    if found.surest:
        parts += [plain(""), _surest(found.surest[:5])]
    if paired is not None:
        parts += [plain(""), _labels(paired)]
    for name, by_value in found.slices.items():
        parts += [plain(""), _slice_table(name, by_value)]
    return Group(*parts, *verdict_lines(refused))


def _surest(changes: list[ChangedEntity]) -> Any:
    table = columns("surest changes", "entity", "from", "to", "score")
    for it in changes:
        table.add_row(plain(it.id), plain(it.text), *_sides(it.change), f"{it.score:.3f}")
    return table


def _labels(paired: PairedEntities) -> Any:
    table = columns("label", "gold", "F1 of A", "F1 of B")
    for label, hits in paired.by_label.items():
        a, b = f1s_of(hits)
        table.add_row(plain(label), f"{hits.gold:,}", f"{a:.4f}", f"{b:.4f}")
    return table


def _slice_table(name: str, by_value: dict[str, PairedEntities]) -> Any:
    table = columns(name, "texts", "A", "B", "B less A")
    for value, paired in sorted(by_value.items()):
        a, b = paired.f1s
        table.add_row(
            plain(value), f"{paired.rows:,}", f"{a.value:.4f}", f"{b.value:.4f}", _delta(paired)
        )
    return table


def _delta(paired: PairedEntities) -> str:
    it = paired.delta
    return f"{it.value:+.4f}, 95 % interval {it.low:+.4f} to {it.high:+.4f}"


def _sides(change: Change) -> tuple[Any, Any]:
    after = f"{change.after}, another span" if change.is_moved else change.after
    return plain(change.before or NONE), plain(after or NONE)


def _change(change: Change) -> dict[str, Any]:
    return {
        "from": change.before or None, "to": change.after or None, "span_moved": change.is_moved,
    }  # fmt: skip


def _paired(paired: PairedEntities) -> dict[str, Any]:
    a, b = paired.f1s
    labels = {
        label: {"gold": hits.gold, **dict(zip(("f1_a", "f1_b"), f1s_of(hits), strict=True))}
        for label, hits in paired.by_label.items()
    }
    return {
        "texts": paired.rows, "f1_a": a.to_json(), "f1_b": b.to_json(),
        "delta": paired.delta.to_json(), "labels": labels,
    }  # fmt: skip
