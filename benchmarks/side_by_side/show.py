"""The medians of all rounds: as a table, as JSON, as a plot; and what was asked for beside them."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.side_by_side.contestants import ALL, CEILING, CELERY, EMPTY, HEADRACE
from benchmarks.side_by_side.targets import verdicts

KEYS = ("rounds", "rows_per_s", "ratio", "spread", "tokens_per_s", "padding_share",
        "useful_gflops", "done_gflops", "over_ceiling", "waiting_share", "startup_s", "peak_mb",
        "gpu_peak_mb", "ms_each", "note")  # fmt: skip
# The fake task's rows and an empty message are not the job.
OTHER_WORK = (CEILING, "tokenizer", "parquet", EMPTY, CELERY)


def summarize(kept: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each contestant its medians over the rounds.

    `ratio` is how many times its time for a row is ours; `spread` its slowest round over its
    fastest. Useful operations are those of real tokens through the whole model.
    """
    facts, runs = kept["facts"], kept["runs"]
    speed = {name: median(r["rows"] / r["seconds"] for r in f) for name, f in runs.items()}
    peak = max((r["flops"] / r["seconds"] for r in runs.get(CEILING, ())), default=0.0)
    table: dict[str, dict[str, Any]] = {n: {"note": why} for n, why in kept["missing"].items()}
    for name, found in runs.items():
        against = ALL[name].against if name in ALL else HEADRACE
        scores = name not in OTHER_WORK
        each = facts["useful_flops"] / facts["rows"]
        useful = speed[name] * each if scores else 0.0
        row = {
            "rounds": len(found),
            "rows_per_s": speed[name] if name != CEILING else None,
            "ratio": speed[against] / speed[name] if scores and against in speed else None,
            "spread": max(r["seconds"] for r in found) / min(r["seconds"] for r in found),
            "tokens_per_s": _rate(found, "tokens") if name != CEILING else None,
            "padding_share": _padding(found[-1]) if scores else None,
            "useful_gflops": peak / 1e9 if name == CEILING else useful / 1e9 or None,
            "done_gflops": _rate(found, "flops", 1e9) if scores else None,
            "over_ceiling": useful / peak if peak and useful else None,
        }
        for key in ("peak_mb", "gpu_peak_mb", "ms_each", "ms_alone", "startup_s", "wall_s"):
            row[key] = median(r.get(key, 0.0) for r in found) or None
        waited = [r["waiting_s"] / r["seconds"] for r in found if r.get("waiting_s")]
        row["waiting_share"] = median(waited) if waited else None
        row["note"] = found[-1].get("note") or None
        table[name] = {key: _short(value) for key, value in row.items()}
    return table


def _rate(found: list[dict[str, float]], key: str, unit: float = 1.0) -> float | None:
    return median(r.get(key, 0.0) / r["seconds"] / unit for r in found) or None


def _padding(run: Mapping[str, float]) -> float | None:
    computed = run.get("computed", 0)
    return 1 - run["tokens"] / computed if computed else None


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value) if abs(value) >= 100 else round(value, 3 if abs(value) < 1 else 2)


def as_text(kept: Mapping[str, Any]) -> str:
    facts = kept["facts"]
    head = (
        f"{facts['rows']:,} rows ({facts['corpus']}), {facts['tokens']:,} tokens, median "
        f"{facts['median_tokens']}; {facts['model']} in {facts['dtype']} on {facts['device']}, "
        f"{facts['workers']} worker(s) of {facts['threads']} thread(s); {facts['cores']} cores with "
        f"{facts['instructions'].split(', ')[0]}, torch {facts['torch']}."
    )
    table = kept["table"]
    shown = [key for key in KEYS if any(row.get(key) is not None for row in table.values())]
    lines = [head, "", f"| contestant | {' | '.join(shown)} |", "| --- " * (len(shown) + 1) + "|"]
    for name, row in table.items():
        cells = ("–" if row.get(key) is None else str(row[key]) for key in shown)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| what | at least | here | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {v['what']} | {v['least']} | {v['measured']} | {v['verdict']} |"
        for v in kept["targets"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Print results again, or put them into a page and its images."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side.show", description=main.__doc__
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="Markdown with <!-- results NAME --> for each")
    args = parser.parse_args()
    for path in args.files:
        kept = load(path)
        plot(kept, path.with_suffix(".svg"))
        if args.into is None:
            print(as_text(kept))
            continue
        args.into.write_text(put_into(args.into.read_text(), path.stem, as_text(kept)))
        for kind in (".json", ".svg"):
            shutil.copyfile(
                path.with_suffix(kind), args.into.parents[1] / "images" / f"{path.stem}{kind}"
            )


def put_into(page: str, name: str, text: str) -> str:
    """The page with the text between the two marks of this name replaced.

    Raises:
        ValueError: a mark is missing.
    """
    start, stop = f"<!-- results {name} -->\n", f"<!-- end {name} -->\n"
    before, rest = page[: page.index(start)], page[page.index(start) :]
    return f"{before}{start}{text}\n{rest[rest.index(stop) :]}"


def load(path: Path) -> dict[str, Any]:
    """The results so far; empty where there are none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(path: Path, facts: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """JSON, and a plot beside it where matplotlib is installed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full: dict[str, Any] = {"facts": facts, "runs": kept["runs"], "missing": kept["missing"]}
    full["table"] = summarize(full)
    full["targets"] = verdicts(full["table"])
    path.write_text(json.dumps(full, indent=1) + "\n")
    plot(full, path.with_suffix(".svg"))


def plot(full: Mapping[str, Any], to: Path) -> None:
    rows = [(n, r["ratio"]) for n, r in full["table"].items() if r.get("ratio") is not None]
    rows.sort(key=lambda row: (ALL[row[0]].against if row[0] in ALL else "", row[1]))
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    ours = [name.startswith(("headrace", "fleet")) for name, _ in rows]
    bars = axes.barh(
        [n for n, _ in rows], [r for _, r in rows],
        color=["tab:blue" if mine else "tab:gray" for mine in ours],
    )  # fmt: skip
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    facts = full["facts"]
    axes.set_xlabel("time a row, headrace = 1")
    axes.set_title(
        f"{facts['corpus']}, {facts['rows']:,} rows, {facts['threads']} thread(s), "
        f"{facts['dtype']} on {facts['device']}", fontsize=9,
    )  # fmt: skip
    figure.savefig(to)


if __name__ == "__main__":
    main()
