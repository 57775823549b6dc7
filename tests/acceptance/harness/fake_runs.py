"""The arguments of a command that runs the fake task, and the parts that it has made."""

from __future__ import annotations

from pathlib import Path

SLOW = '{"ms_per_row": 8}'


def fake(corpus: Path, output: Path, *more: str) -> list[str]:
    return [str(corpus), "--output", str(output), "--task", "fake", "--id-column", "name", *more]


def slow(corpus: Path, output: Path, *more: str) -> list[str]:
    """The same, slow enough to be stopped between its parts: 600 rows are 12 of 0.4 s."""
    return fake(corpus, output, "--task-params", SLOW, "--chunk-rows", "50", *more)


def parts(output: Path) -> int:
    return len(list((output / "data").glob("*.parquet"))) if (output / "data").exists() else 0
