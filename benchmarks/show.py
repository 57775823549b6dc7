"""The medians of all rounds: as a table, as JSON, as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contestants import ALL

Runs = Mapping[str, Sequence[Mapping[str, float]]]


def summarize(runs: Runs, flops: float, missing: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """For each contestant its medians, and its time over the time of ours (`ratio`)."""
    seconds = {name: median(run["seconds"] for run in found) for name, found in runs.items()}
    peak = _ceiling(runs)
    table: dict[str, dict[str, Any]] = {name: {"note": why} for name, why in missing.items()}
    for name, found in runs.items():
        last, s = found[-1], seconds[name]
        against = ALL[name].against if name in ALL else "headrace"
        computed, tokens = last.get("computed", 0), last.get("tokens", 0)
        scores = name not in ("ceiling", "parquet", "tokenizer", "fleet-fake-task")
        table[name] = {
            "seconds": round(s, 3),
            "all_seconds": [round(run["seconds"], 3) for run in found],
            "ratio": round(s / seconds[against], 2) if scores and against in seconds else None,
            "rows_per_s": round(last["rows"] / s, 1),
            "tokens_per_s": round(tokens / s) if tokens else None,
            "padding_share": round(1 - tokens / computed, 3) if computed else None,
            "useful_gflops": round(flops / s / 1e9, 1) if scores else None,
            "over_ceiling": round(flops / s / peak, 2) if scores and peak else None,
            "peak_mb": round(last["peak_mb"]) if "peak_mb" in last else None,
        }
        if name == "ceiling":
            table[name] |= {"rows_per_s": None, "tokens_per_s": None, "padding_share": None,
                            "useful_gflops": round(peak / 1e9, 1)}  # fmt: skip
        if "s_per_chunk" in last:
            table[name]["ms_per_chunk"] = round(1e3 * s / last["chunks"], 1)
    return table


def _ceiling(runs: Runs) -> float:
    return max((run["flops"] / run["seconds"] for run in runs.get("ceiling", ())), default=0.0)


def as_text(table: Mapping[str, Mapping[str, Any]]) -> str:
    keys = ("seconds", "ratio", "rows_per_s", "tokens_per_s", "padding_share", "useful_gflops",
            "over_ceiling", "peak_mb", "ms_per_chunk", "note")  # fmt: skip
    kept = [key for key in keys if any(row.get(key) is not None for row in table.values())]
    lines = [f"| contestant | {' | '.join(kept)} |", "| --- " * (len(kept) + 1) + "|"]
    for name, row in table.items():
        cells = ("–" if row.get(key) is None else str(row[key]) for key in kept)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save(folder: Path, stem: str, facts: Mapping[str, Any]) -> Path:
    """JSON, and a plot where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(facts, indent=1) + "\n")
    rows = [(n, r["ratio"]) for n, r in facts["table"].items() if r.get("ratio") is not None]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return path
    figure = Figure(figsize=(7, 0.35 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([n for n, _ in rows], [r for _, r in rows])
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("time, headrace = 1")
    figure.savefig(folder / f"{stem}.svg")
    return path
