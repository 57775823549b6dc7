"""The job that every contestant runs, what it tells about it, and how its work is counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_LENGTH = 512
BUDGET_TOKENS = {"cpu": 2048, "cuda": 32_768}  # as workers.tasks.transformer
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
          "MALLOC_TOP_PAD_": str(64 << 20)}  # fmt: skip
"""As workers.engine.device gives its workers; repeated, for peers run without headrace."""


@dataclass(frozen=True)
class Job:
    """Read `corpus`, score its `text` with `model`, write `output`."""

    corpus: str
    model: str
    output: str
    threads: int
    device: str = "cpu"
    dtype: str = "float32"

    @property
    def budget(self) -> int:
        return BUDGET_TOKENS[self.device.split(":")[0]]

    def read(self) -> tuple[list[Any], list[str]]:
        import pyarrow.parquet as pq

        table = pq.read_table(self.corpus, columns=["id", "text"])
        return table["id"].to_pylist(), table["text"].to_pylist()

    def write(self, **columns: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), self.output, compression="zstd")


@dataclass(frozen=True)
class Outcome:
    """What a contestant says of its run; `seconds` from the first byte read to the last written."""

    seconds: float
    rows: int
    tokens: int = 0
    """Real ones."""
    computed: int = 0
    """Padding included."""
    flops: float = 0.0
    """In the ceiling's own process: its operations."""


def model_flops(config: dict[str, Any], lengths: Sequence[int]) -> float:
    """Operations that rows of these lengths need of a BERT without padding.

    Two a weight a token in each layer, and two products of `[n, n]` by the width in attention.
    """
    wide, inner = config["hidden_size"], config["intermediate_size"]
    linear = 2.0 * (4 * wide * wide + 2 * wide * inner)
    layers: int = config["num_hidden_layers"]
    return layers * sum(linear * n + 4.0 * n * n * wide for n in lengths)


def read_config(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(model) / "config.json").read_text())
    return found
