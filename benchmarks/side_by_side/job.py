"""The job that every contestant runs, what it tells about it, and how its work is counted."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_LENGTH = 512
BUDGET_TOKENS = {"cpu": 2048, "cuda": 32_768}  # as workers.engines.packed.engine
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
          "MALLOC_TOP_PAD_": str(64 << 20)}  # fmt: skip
"""As workers.devices.device gives its workers; repeated, for peers run without headrace."""


@dataclass(frozen=True)
class Job:
    """Read `corpus`, score its `text` with `model`, write `output`."""

    corpus: str
    model: str
    output: str
    threads: int
    device: str = "cpu"
    dtype: str = "float32"
    parts: str = ""
    """The same rows as a folder of many files, for those that read in parallel."""
    cache: str = ""
    """A folder for models in other formats; made before the clock starts, kept between runs."""

    @property
    def budget(self) -> int:
        return BUDGET_TOKENS[self.device.split(":")[0]]

    def read(self) -> tuple[list[Any], list[str]]:
        import pyarrow.parquet as pq

        table = pq.read_table(self.corpus, columns=["id", "text"])
        return table["id"].to_pylist(), table["text"].to_pylist()

    def lengths(self) -> list[int] | None:
        """Tokens of each row at `MAX_LENGTH`, where whoever made the corpus has counted them."""
        import pyarrow.parquet as pq

        if "tokens" not in pq.read_schema(self.corpus).names:
            return None
        found: list[int] = pq.read_table(self.corpus, columns=["tokens"])["tokens"].to_pylist()
        return found

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
    """Operations really done, padding included; of a ceiling, its own."""
    startup_s: float = 0.0
    """Beside `seconds`: what it took to start what computes, where that belongs to the job."""
    waiting_s: float = 0.0
    """Of `seconds`: the device had nothing to do."""
    note: str = ""
    peak_mb: float = 0.0
    """Of resident memory, when the job was done and nothing had been counted yet; of the process,
    so that it is no less than that of jobs it did before."""
    gpu_peak_mb: float = 0.0
    """The most that torch had given out of the GPU's memory, weights included."""


def peak_mb() -> float:
    """The most this process had resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def model_flops(config: dict[str, Any], lengths: Iterable[int]) -> float:
    """Operations that rows of these lengths need of an encoder or decoder without padding.

    Two a weight a token in each layer, and two products of `[n, n]` by the width in attention.
    """
    return sum(_flops(config, n, n) for n in lengths)


def batch_flops(config: dict[str, Any], batches: Iterable[Sequence[int]]) -> float:
    """Operations of padded batches, each given as the lengths of its rows."""
    return sum(len(b) * _flops(config, max(b), max(b)) for b in batches if len(b))


def first_only_flops(config: dict[str, Any], lengths: Iterable[int]) -> float:
    """The same where the last layer computes one position a row: keys and values of all remain."""
    one = dict(config, num_hidden_layers=1)
    return model_flops(config, lengths := list(lengths)) - sum(
        _flops(one, n, n) - _flops(one, n, 1) for n in lengths if n
    )


def _flops(config: dict[str, Any], tokens: int, queries: int) -> float:
    """Of one row; `queries` of its positions need all but their key and value."""
    shapes = layer_shapes(config)
    query, key, value, *rest = (wide * high for wide, high in shapes)
    attended = shapes[0][1]
    each = 2.0 * (tokens * (key + value) + queries * (query + sum(rest)))
    layers: int = config["num_hidden_layers"]
    return layers * (each + 4.0 * tokens * queries * attended)


def layer_shapes(config: dict[str, Any]) -> list[tuple[int, int]]:
    """(in, out) of a layer's matrices: query, key, value, output, and those of its MLP."""
    wide, inner, heads = (
        config[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    head = config.get("head_dim") or wide // heads
    q, kv = head * heads, head * (config.get("num_key_value_heads") or heads)
    gate = [(wide, inner)] if config.get("hidden_act") == "silu" else []  # a gated MLP has three
    return [(wide, q), (wide, kv), (wide, kv), (q, wide), *gate, (wide, inner), (inner, wide)]


def read_config(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(model) / "config.json").read_text())
    return found
