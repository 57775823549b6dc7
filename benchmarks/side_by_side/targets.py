"""What was asked of headrace, held against a table of results. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.side_by_side.contestants import ALL, BARE, EMBEDDINGS, FLEET, HEADRACE, INT8

Table = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Target:
    """Speed of `ours` over that of the best of `peers`; all that stand in a table count."""

    what: str
    least: float
    ours: str
    peers: tuple[str, ...]


SPEED = [
    Target("whole fleet over the bare engine", 0.95, FLEET, (BARE,)),
    Target("over sentence-transformers at its best", 1.7, EMBEDDINGS, ("sentence-transformers",)),
    Target("over the pipeline at its best (skewed text)", 1.8, HEADRACE, ("pipeline",)),
    Target("over the pipeline at 8 (skewed text)", 4, HEADRACE, ("pipeline-8",)),
    Target("over the pipeline at 32 (skewed text)", 8, HEADRACE, ("pipeline-32",)),
    Target("over ONNX Runtime fp32 at its best", 1.0, HEADRACE,
           ("onnxruntime-fused", "onnxruntime-plain")),
    Target("over OpenVINO fp32 at its best", 1.0, HEADRACE, ("openvino",)),
    Target("over a sorted padded loop", 1.0, HEADRACE, ("sorted-loop",)),
    Target("over Ray Data, chunks alone", 1.7, FLEET, ("ray-data-pipeline",)),
    Target("int8 over fp32", 1.4, INT8, (HEADRACE,)),
]  # fmt: skip


def verdicts(table: Table) -> list[dict[str, Any]]:
    """Each target that this table says something of: what, least, measured, verdict."""
    found = []
    for target in SPEED:
        peer = best_of(table, target.peers)
        ours = table.get(target.ours, {}).get("rows_per_s")
        if peer is None or ours is None:
            continue
        ratio = ours / table[peer]["rows_per_s"]
        found.append(_row(f"{target.what}: {peer}", target.least, ratio))
    share = table.get(HEADRACE, {}).get("over_ceiling")
    if share is not None:
        found.append(_row("useful operations over the best matrix product", 0.75, share))
    return found


def best_of(table: Table, names: tuple[str, ...]) -> str | None:
    """The fastest of these contestants and families that has run."""
    members = [
        name for name, row in table.items()
        if row.get("rows_per_s") and (name in names or (name in ALL and ALL[name].family in names))
    ]  # fmt: skip
    return max(members, key=lambda name: table[name]["rows_per_s"], default=None)


def _row(what: str, least: float, measured: float) -> dict[str, Any]:
    verdict = "reached" if measured >= least else "not reached"
    return {"what": what, "least": least, "measured": round(measured, 2), "verdict": verdict}
