"""The table of readers: `python -m benchmarks.readers`, or `make readers`.

Each reader has an environment of its own under `--environments`, made with pip at the first run.
It reads each task's output twice: `OUTPUT/data`, and `OUTPUT` itself. Its rows are compared value
by value with those that the pyarrow of this environment reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.readers.read import by_pyarrow, plain
from benchmarks.readers.write import TASKS, write_outputs

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs/reference/readers.md"
BEGIN, END = "<!-- readers: begin -->", "<!-- readers: end -->"
ENVIRONMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pyarrow20": ("pyarrow", ("pyarrow==20.0.0",)),
    "pyarrow23": ("pyarrow", ("pyarrow==23.0.1",)),
    "pandas2": ("pandas", ("pandas<3", "pyarrow==22.0.0")),
    "pandas3": ("pandas", ("pandas>=3", "pyarrow")),
    "polars": ("polars", ("polars",)),
    "duckdb": ("duckdb", ("duckdb", "pyarrow")),
    "datasets": ("datasets", ("datasets",)),
    "lance": ("lance", ("pylance",)),
    "daft": ("daft", ("daft",)),
    "fastparquet": ("fastparquet", ("fastparquet",)),
    "spark": ("spark", ("pyspark<4",)),
}
"""Environment → the reader's function in `read.py`, and what pip installs."""
DISTRIBUTION = {"lance": "pylance", "spark": "pyspark"}
"""Package of a reader where it has another name."""
LIMIT_S = 300


def python_of(folder: Path, name: str) -> Path:
    """The environment's interpreter; makes the environment if it is not there."""
    python = folder / name / "bin/python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name][1]]
        subprocess.run(command, check=True)
    return python


def outcome(python: Path, reader: str, folder: Path, expected: list[Any]) -> str:
    """`yes`, or what went wrong."""
    command = [str(python), str(HERE / "read.py"), reader, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT_S} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["?"])[-1][:90].replace("|", "/")
    return compared(json.loads(done.stdout.splitlines()[-1]), expected)


def compared(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    """`yes` where all rows are there with all their values."""
    if len(found) != len(expected):
        return f"{len(found)} of {len(expected)} rows"
    wrong = {
        name
        for mine, theirs in zip(found, expected, strict=True)
        for name, value in theirs.items()
        if mine.get(name) != value
    }
    return f"other values: {', '.join(sorted(wrong))}" if wrong else "yes"


def version(python: Path, reader: str) -> str:
    name = DISTRIBUTION.get(reader, reader)
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def table(
    outputs: Path, environments: Path, only: Sequence[str] = (), before: str = ""
) -> Iterator[str]:
    """The table's lines; with `only` those of other environments as they were `before`."""
    yield f"| reader | {' | '.join(TASKS)} | `OUTPUT` itself |"
    yield "| --- |" + " --- |" * (len(TASKS) + 1)
    lines = before.strip().splitlines()[2:]
    expected = {
        task: sorted(
            ({k: plain(v) for k, v in row.items()} for row in by_pyarrow(f"{outputs}/{task}/data")),
            key=lambda row: str(row["id"]),
        )
        for task in TASKS
    }
    for number, (name, (reader, _)) in enumerate(ENVIRONMENTS.items()):
        if only and name not in only:
            yield lines[number]
            continue
        python = python_of(environments, name)
        cells = [outcome(python, reader, outputs / t / "data", expected[t]) for t in TASKS]
        last = list(TASKS)[-1]
        cells.append(outcome(python, reader, outputs / last, expected[last]))
        line = f"| {reader} {version(python, reader)} | {' | '.join(cells)} |"
        print(line, file=sys.stderr)
        yield line


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--environments", type=Path, required=True)
    arguments.add_argument(
        "--only", nargs="+", default=(), choices=ENVIRONMENTS, help="keep the other lines"
    )
    asked = arguments.parse_args()
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    before, tail = rest.split(END)
    with tempfile.TemporaryDirectory(prefix="headrace-readers-") as scratch:
        with ThreadPoolExecutor(1) as pool:  # torch's threads end with it
            pool.submit(write_outputs, Path(scratch)).result()
        lines = "\n".join(table(Path(scratch), asked.environments, asked.only, before))
    PAGE.write_text(f"{head}{BEGIN}\n{lines}\n{END}{tail}")


if __name__ == "__main__":
    main()
