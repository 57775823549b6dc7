"""Models and lengths, each with its peers: what `make bench` does on a machine with a GPU.

    python -m benchmarks.matrix --peers-python peers/bin/python

BERT-base, BERT-large, MiniLM's shape and a decoder of a billion parameters as classifiers, with
random weights, on rows of 32, 128 and 512 tokens and on a skewed mix; in bfloat16 on a GPU. Each is
a run of `python -m benchmarks` with results of its own; what was run already is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import ON_GPU
from benchmarks.targets import best_of

SIZES = ("base", "large", "minilm", "decoder-1b")
LENGTHS = (32, 128, 512, 0)  # 0: the skewed mix
TOKENS = 4_000_000  # chosen: some seconds of BERT-base on a large GPU
SHOWN = ("headrace", "headrace-embeddings", "sentence-transformers", "pipeline", "sorted-loop")


def main() -> None:
    args = _arguments()
    lines = []
    for size in args.sizes:
        for length in args.lengths:
            path = args.results / f"{size}-{length or 'mix'}.json"
            _run(size, length, path, args)
            lines.append(line(size, length, json.loads(path.read_text())["table"]))
    print("\n".join([*HEAD, *lines]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.matrix", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="0: a skewed mix")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each corpus, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=ON_GPU)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "gpu")
    return parser.parse_args()


def _run(size: str, length: int, path: Path, args: argparse.Namespace) -> None:
    rows = max(8, args.tokens // (length or 70))  # 70: the mean of the mix
    command = [
        sys.executable, "-m", "benchmarks", "--size", size, "--resume", str(path), "--rows",
        str(rows), "--sample-rows", str(max(8, rows // 8)), "--rounds", str(args.rounds),
        "--peers-python", args.peers_python, "--only", *_left(path, args.only, args.rounds),
    ]  # fmt: skip
    if command[-1] == "--only":
        return
    command += ["--length", str(length)] if length else []
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


def _left(path: Path, names: Sequence[str], rounds: int) -> list[str]:
    """Who has not run all its rounds yet."""
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    return [name for name in names if len(runs.get(name, ())) < rounds]


HEAD = [f"| model | tokens a row | useful over product | {' | '.join(SHOWN)} |",
        f"{'| --- ' * (len(SHOWN) + 3)}|"]  # fmt: skip


def line(size: str, length: int, table: dict[str, dict[str, Any]]) -> str:
    """Rows a second of each, a family by its best."""
    best = (best_of(table, (name,)) for name in SHOWN)
    cells = [f"{table[name]['rows_per_s']} ({name})" if name else "–" for name in best]
    share = table.get("headrace", {}).get("over_ceiling", "–")
    return f"| {size} | {length or 'mix'} | {share} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
