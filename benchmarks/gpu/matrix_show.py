"""The matrix's results: saved, and as a table of medians."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.contestants import CEILING, EMBEDDINGS, HEADRACE
from benchmarks.side_by_side.show import summarize
from benchmarks.side_by_side.targets import best_of

SENTENCES, PIPELINE, LOOP = "sentence-transformers", "pipeline", "sorted-loop"
HEAD = (
    "model", "tokens a row", "ceiling, TFLOP/s", "headrace, rows/s", "useful over ceiling",
    "waiting", "GPU, MB", "embeddings, rows/s", "over ceiling", "waiting", "GPU, MB",
    "sentence-transformers' best, rows/s", "ratio", "GPU, MB", "pipeline's best, rows/s", "ratio",
    "sorted loop, rows/s", "ratio",
)  # fmt: skip
NOTHING = "–"


def save(path: Path, kept: Mapping[str, Any]) -> None:
    """All of it as JSON, with the table; a file that is there is whole, whenever this ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full = {**kept, "table": tables(kept)}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(full, indent=1) + "\n")
    partial.replace(path)


def tables(kept: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each model and length, its contestants' medians as `show.summarize` has them."""
    found = {}
    for name, facts in kept["facts"]["cells"].items():
        runs, missing = (
            {**kept[kind].get(facts["size"], {}), **kept[kind].get(name, {})}
            for kind in ("runs", "missing")
        )
        found[name] = summarize({"facts": facts, "runs": runs, "missing": missing})
    return found


def as_text(kept: Mapping[str, Any]) -> str:
    facts, found = kept["facts"], tables(kept)
    peers = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    lines = [
        f"{facts['device_name']}, {facts['dtype']}, {facts['threads']} threads, torch "
        f"{facts['torch']}, transformers {facts['transformers']}; peers: {peers}; at "
        f"{facts['commit']}. Medians of {_rounds(kept)} round(s).",
        "", f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|",
    ]  # fmt: skip
    lines += [line(facts["cells"][name], table) for name, table in found.items()]
    failed = [f"- {key}, {name}: {why}" for key, each in kept["missing"].items()
              for name, why in each.items()]  # fmt: skip
    return "\n".join([*lines, *(["", "Without a result:", *failed] if failed else [])])


def _rounds(kept: Mapping[str, Any]) -> str:
    counts = {len(runs) for each in kept["runs"].values() for runs in each.values()} or {0}
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def line(facts: Mapping[str, Any], table: Mapping[str, Mapping[str, Any]]) -> str:
    """A family by its best; ratios are ours over theirs, of the same kind of work."""
    ours, own = table.get(HEADRACE, {}), table.get(EMBEDDINGS, {})
    ceiling = table.get(CEILING, {}).get("useful_gflops")
    cells = [
        facts["size"], facts["length"] or "mix", ceiling and round(ceiling / 1e3, 1),
        *(ours.get(key) for key in ("rows_per_s", "over_ceiling", "waiting_share", "gpu_peak_mb")),
        *(own.get(key) for key in ("rows_per_s", "over_ceiling", "waiting_share", "gpu_peak_mb")),
        *_peer(table, SENTENCES, with_memory=True), *_peer(table, PIPELINE), *_peer(table, LOOP),
    ]  # fmt: skip
    return f"| {' | '.join(NOTHING if c is None else str(c) for c in cells)} |"


def _peer(
    table: Mapping[str, Mapping[str, Any]], name: str, *, with_memory: bool = False
) -> list[Any]:
    best = best_of(table, (name,))
    row = table[best] if best else {}
    size = f" ({best.removeprefix(name).lstrip('-')})" if best and best != name else ""
    speed = f"{row['rows_per_s']}{size}" if best else None
    return [speed, row.get("ratio"), *([row.get("gpu_peak_mb")] if with_memory else [])]


if __name__ == "__main__":
    print(as_text(json.loads(Path(sys.argv[1]).read_text())))
