"""Models and corpora of the matrix: made once, several at once, and kept in a folder.

Corpora alone can be made on another machine and carried: they take a few megabytes. A corpus is the
first rows of the longest one of its length, so that each text is made and tokenized once. It has
its rows' tokens beside them: nobody counts them again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.inputs import (
    make_model,
    mixed_lengths,
    save_tokenizer,
    take_lengths,
    take_sample,
)
from benchmarks.side_by_side.job import MAX_LENGTH

MEAN_OF_MIX = 62
MAKERS = 8  # chosen: a process holds some 500 MB, and there are no more lengths than that


@dataclass(frozen=True)
class Cell:
    """A model on rows of a length; 0: the skewed mix."""

    size: str
    length: int
    rows: int
    sample_rows: int

    @property
    def name(self) -> str:
        return f"{self.size}-{self.length or 'mix'}"

    def corpus(self, folder: Path) -> Path:
        return folder / "corpora" / f"{self.length or 'mix'}-{self.rows}.parquet"

    def sample(self, folder: Path) -> Path:
        name = f"{self.length or 'mix'}-{self.rows}-sample-{self.sample_rows}.parquet"
        return folder / "corpora" / name

    def model(self, folder: Path) -> Path:
        return model_folder(folder, self.size)


def model_folder(folder: Path, size: str) -> Path:
    return folder / "models" / size


def cell(size: str, length: int, tokens: int, sample_rows: int) -> Cell:
    """Of about so many tokens; a sample of so many rows at most, and of an eighth of all."""
    rows = max(8, tokens // (length or MEAN_OF_MIX))
    return Cell(size, length, rows, min(sample_rows, max(8, rows // 8)))


def make_corpora(cells: Iterable[Cell], folder: Path) -> None:
    """Those that are not there yet, each length in a process of its own."""
    missing = [c for c in cells if not (c.corpus(folder).exists() and c.sample(folder).exists())]
    if not missing:
        return
    (folder / "corpora").mkdir(parents=True, exist_ok=True)
    tokenizer = folder / "tokenizer"
    save_tokenizer(tokenizer)
    missing.sort(key=lambda c: c.length)
    groups = [list(group) for _, group in groupby(missing, key=lambda c: c.length)]
    workers = min(len(groups), os.cpu_count() or 1, MAKERS)
    # spawned: this process may have started CUDA by now
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for made in [pool.submit(_make_length, group, folder, tokenizer) for group in groups]:
            made.result()


def make_models(sizes: Iterable[str], folder: Path, device: str, dtype: str) -> None:
    for size in sizes:
        if not (model_folder(folder, size) / "config.json").exists():
            make_model(model_folder(folder, size), size, device, dtype)


def _make_length(cells: Sequence[Cell], folder: Path, tokenizer: Path) -> None:
    import pyarrow.parquet as pq

    length, rows = cells[0].length, max(cell.rows for cell in cells)
    whole = folder / "corpora" / f"whole-{length}.parquet"
    take_lengths([length] * rows if length else mixed_lengths(rows), whole)
    table = pq.read_table(whole)
    whole.unlink()
    table = table.append_column("tokens", [_tokens(table["text"].to_pylist(), tokenizer)])
    for own in cells:
        corpus, sample = own.corpus(folder), own.sample(folder)
        part = table.slice(0, own.rows)
        # texts are distinct: a dictionary of them would only be in the way of zstd
        pq.write_table(part, corpus, compression="zstd", compression_level=9, use_dictionary=False)
        take_sample(corpus, part["tokens"].to_pylist(), own.sample_rows, sample)


def _tokens(texts: list[str], tokenizer: Path) -> Any:
    import pyarrow as pa
    from transformers import AutoTokenizer

    from workers.models.tokenizer import Encoder

    encoder = Encoder(AutoTokenizer.from_pretrained(tokenizer), MAX_LENGTH)
    return pa.array(encoder(texts).lengths, pa.int32())
