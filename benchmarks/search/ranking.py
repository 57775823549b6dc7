"""A cross-encoder and sparse vectors, beside sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.contest import Contest, of_sizes
from benchmarks.search.models import with_head
from benchmarks.side_by_side.fan_out import LIMIT, loaded, scored, window_of
from workers.tasks.sparse_embedding import SparseEmbedding
from workers.tasks.text_ranking import TextRanking

PEER = "sentence-transformers"
QUERY = "what do people say about the new version"


def ranking(model: Path, texts: Sequence[str], scratch: Path) -> Contest:
    """One query and every text."""
    from sentence_transformers import CrossEncoder

    folder = with_head(
        model, scratch, "SequenceClassification", LIMIT, num_labels=1, problem_type=None
    )
    ours = loaded(TextRanking(), folder)
    theirs = CrossEncoder(str(folder), device="cpu", max_length=LIMIT)
    rows = window_of([QUERY] * len(texts), list(texts))
    pairs = [(QUERY, text) for text in texts]

    def predict(size: int) -> Any:
        return theirs.predict(pairs, batch_size=size, show_progress_bar=False)

    def score() -> Any:
        return scored(ours, rows)["score"].to_numpy()

    apart = float(np.abs(score() - predict(8)).max())
    return Contest(len(texts), {"headrace": score} | of_sizes(PEER, predict), apart)


def sparse(model: Path, texts: Sequence[str], scratch: Path) -> Contest:
    """The sparse vector of every text."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    folder = with_head(model, scratch, "MaskedLM", LIMIT)
    ours = loaded(SparseEmbedding(), folder)
    inner = MLMTransformer(str(folder), max_seq_length=LIMIT)
    theirs = SparseEncoder(modules=[inner, SpladePooling()], device="cpu")
    rows = window_of(list(texts))

    def encode(size: int) -> Any:
        return theirs.encode(
            list(texts), batch_size=size, show_progress_bar=False, save_to_cpu=True
        )

    def embed() -> Any:
        return scored(ours, rows)["sparse_embedding"]

    wanted = np.asarray(encode(8).to_dense())
    apart = float(np.abs(_dense(embed(), wanted.shape[1]) - wanted).max())
    return Contest(len(texts), {"headrace": embed} | of_sizes(PEER, encode), apart)


def _dense(column: Any, width: int) -> np.ndarray:
    found = np.zeros((len(column), width), np.float32)
    for at, row in enumerate(column.to_pylist()):
        found[at, row["indices"]] = row["values"]
    return found
