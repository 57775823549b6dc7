"""A comparison of two outputs, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.quality.comparison import Compared
from producers.quality.cost import Cost
from producers.quality.intervals import Interval
from producers.quality.paired import Paired, holm
from producers.quality.pairs.compared_entities import ComparedEntities
from producers.terminal.console import columns, grid, plain
from schemas.records.job import Job

if TYPE_CHECKING:
    from rich.console import RenderableType

Sides = Compared | ComparedEntities

SHOWN = 15
"""Chosen: changes of label that are listed; `--json` has all of them."""


def as_json(found: Compared, refused: list[str] | None) -> dict[str, Any]:
    """The object of `--json`."""
    agreement = found.agreement
    result: dict[str, Any] = {
        **head_numbers(found),
        "kappa": agreement.kappa,
        "flows": [
            {"from": flow.before, "to": flow.after, "texts": flow.rows} for flow in agreement.flows
        ],
        "confident_flips": [
            {
                "id": f.id,
                "from": f.before,
                "to": f.after,
                "score_a": f.score_a,
                "score_b": f.score_b,
            }
            for f in found.confident_flips
        ],
        "gold": None if found.paired is None else _paired(found.paired),
        "slices": {name: _slices(by_value) for name, by_value in found.slices.items()},
    }
    if refused is not None:
        result["gate"] = {"passed": not refused, "refused": refused}
    return result


def render_comparison(found: Compared, refused: list[str] | None) -> RenderableType:
    """What changed, where, and what the gate says."""
    from rich.console import Group

    agreement = found.agreement
    rows = [
        *head_rows(found, agreement.rows, "a label"),
        ("flips", share(agreement.flips)),
        ("kappa", f"{agreement.kappa:.4f}"),
    ]
    if found.paired is not None:
        a, b = found.paired.accuracies
        rows += [
            ("accuracy", f"A {a.value:.4f}, B {b.value:.4f}, on {found.paired.rows:,} texts"),
            ("B less A", f"{share(found.paired.delta, '+')}, p = {found.paired.p_value:.3g}"),
        ]
    parts: list[Any] = [grid([*rows, *cost_rows(found.costs)])]
    if agreement.flows:
        table = columns("from", "to", "texts")
        for flow in agreement.flows[:SHOWN]:
            table.add_row(plain(flow.before), plain(flow.after), f"{flow.rows:,}")
        parts += [plain(""), table]
    if found.confident_flips:
        table = columns("surest flips", "from", "to", "score of A", "score of B")
        for f in found.confident_flips[:5]:
            table.add_row(
                plain(f.id), plain(f.before), plain(f.after), f"{f.score_a:.3f}", f"{f.score_b:.3f}"
            )
        parts += [plain(""), table]
    for name, by_value in found.slices.items():
        parts += [plain(""), _slice_table(name, by_value)]
    return Group(*parts, *verdict_lines(refused))


def head_numbers(found: Sides) -> dict[str, Any]:
    """Both outputs, how many rows met and how many changed, in the object of `--json`."""
    return {
        "a": _side(found.a, found.costs[0]),
        "b": _side(found.b, found.costs[1]),
        "rows": found.rows,
        "texts": found.agreement.rows,
        "only_a_ok": found.only_a_ok,
        "only_b_ok": found.only_b_ok,
        "flips": found.agreement.flips.to_json(),
    }


def head_rows(found: Sides, texts: int, what: str) -> list[tuple[str, str]]:
    """Both outputs, and how many rows met; `what` both models gave the texts that count."""
    return [
        ("A", f"{found.a.output}, {found.a.spec.model.uri}"),
        ("B", f"{found.b.output}, {found.b.spec.model.uri}"),
        ("rows", f"{found.rows:,}: {texts:,} texts with {what} of both, "
                 f"{found.only_a_ok:,} rows failed in B only, {found.only_b_ok:,} in A only"),
    ]  # fmt: skip


def cost_rows(costs: tuple[Cost | None, Cost | None]) -> list[tuple[str, str]]:
    """What both models cost; empty if it is not known of either."""
    if not any(costs):
        return []
    return [("cost", " · ".join(_cost(n, c) for n, c in zip("AB", costs, strict=True)))]


def verdict_lines(refused: list[str] | None) -> list[Any]:
    """What the gate says; empty without one."""
    if refused is None:
        return []
    verdict = ("gate: refused", "bold red") if refused else ("gate: passed", "bold green")
    return [plain(""), plain(verdict), *(plain(f"  {line}") for line in refused)]


def _slice_table(name: str, by_value: dict[str, Paired]) -> Any:
    corrected = holm({value: paired.p_value for value, paired in by_value.items()})
    table = columns(name, "texts", "A", "B", "B less A", "p, corrected")
    for value, paired in sorted(by_value.items()):
        a, b = paired.accuracies
        table.add_row(
            plain(value), f"{paired.rows:,}", f"{a.value:.4f}", f"{b.value:.4f}",
            share(paired.delta, "+"), f"{corrected[value]:.3g}",
        )  # fmt: skip
    return table


def _cost(name: str, cost: Cost | None) -> str:
    if cost is None:
        return f"{name} not known"
    price = "" if cost.price is None else f" ({cost.price:.2f})"
    return f"{name} {cost.worker_hours:.2f} worker-hours{price} for a million rows"


def _side(job: Job, cost: Cost | None) -> dict[str, Any]:
    return {
        "job": job.id,
        "output": job.output,
        "model": job.spec.model.model_dump(),
        "worker_hours_per_million_rows": None if cost is None else cost.worker_hours,
        "price_per_million_rows": None if cost is None else cost.price,
    }


def _slices(by_value: dict[str, Paired]) -> dict[str, Any]:
    corrected = holm({value: paired.p_value for value, paired in by_value.items()})
    return {
        value: {**_paired(paired), "p_corrected": corrected[value]}
        for value, paired in by_value.items()
    }


def _paired(paired: Paired) -> dict[str, Any]:
    a, b = paired.accuracies
    return {
        "texts": paired.rows, "both": paired.both, "only_a": paired.only_a,
        "only_b": paired.only_b, "neither": paired.neither,
        "accuracy_a": a.to_json(), "accuracy_b": b.to_json(),
        "delta": paired.delta.to_json(), "p_value": paired.p_value,
    }  # fmt: skip


def share(it: Interval, sign: str = "") -> str:
    """A share with its interval, in percent."""
    return f"{it.value:{sign}.2%}, 95 % interval {it.low:{sign}.2%} to {it.high:{sign}.2%}"
