"""The profile of a chunk, made while its rows are written. It never fails a chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from headrace.process.logs import get_logger
from headrace.profiles.measure import ProfileBuilder
from headrace.profiles.profile import Profile
from headrace.profiles.vocabulary import Vocabulary
from headrace.tasks.fan_out import FanOut
from headrace.tasks.spec import TaskSpec
from schemas.errors import error_type_of
from workers.pipeline.rows import TokenizedWindow

log = get_logger(__name__)


class ChunkProfile:
    """Counts the rows of one chunk, window by window; an error ends it, and only it."""

    def __init__(self, spec: TaskSpec, vocabulary: Vocabulary | None = None) -> None:
        self._builder: ProfileBuilder | None = ProfileBuilder(spec)
        self._vocabulary = vocabulary

    def add(self, window: TokenizedWindow, rows: pa.RecordBatch) -> None:
        """Count a window and its rows of the part; raises nothing."""
        if self._builder is None:
            return
        try:
            self._builder.add_rows(rows)
            _add_texts(self._builder, window, rows)
            _add_tokens(self._builder, window)
        except Exception as error:  # whatever it is, the chunk does not need the profile
            log.warning("profile.failed", error_type=error_type_of(error))
            self._builder = None

    def finish(self) -> Profile | None:
        """The profile of the chunk; None if it could not be made."""
        if self._builder is None:
            return None
        known = self._vocabulary
        return self._builder.finish(None if known is None else known.counts())


def vocabulary_of(task: Any) -> Vocabulary | None:
    """The tokens of a loaded task's tokenizer; None where it has none, or cannot say them."""
    tokenizer = getattr(task, "tokenizer", None)
    try:
        return None if tokenizer is None else Vocabulary.of_tokenizer(tokenizer)
    except Exception as error:  # a model's own tokenizer may raise anything
        log.warning("profile.failed", error_type=error_type_of(error))
        return None


def _add_texts(builder: ProfileBuilder, window: TokenizedWindow, rows: pa.RecordBatch) -> None:
    read = [(at, text) for at, text in enumerate(window.window.texts) if isinstance(text, str)]
    pairs = window.window.pairs
    texts = [text.encode() for _, text in read]
    if pairs is not None:
        texts = [a + b"\n" + pairs[at].encode() for a, (at, _) in zip(texts, read, strict=True)]
    empty = sum(not text or text.isspace() for _, text in read)
    sizes = np.zeros(len(rows), dtype=np.int64)
    sizes[[at for at, _ in read]] = [len(text) for text in texts]
    lengths = rows.column("n_tokens").fill_null(0).to_numpy(zero_copy_only=False)
    good = rows.column("n_tokens").is_valid().to_numpy(zero_copy_only=False)
    builder.add_texts(texts, sizes[good], lengths[good], empty)


def _add_tokens(builder: ProfileBuilder, window: TokenizedWindow) -> None:
    encodings, hashes = window.encodings, window.window.hashes
    if encodings is None:
        return
    copies = np.bincount(window.copy_of[window.copy_of >= 0], minlength=len(window.unique))
    halves = np.array(
        [(hashes[row] or b"\0")[0] & 1 for row in window.unique.tolist()], dtype=np.int64
    )
    if encodings.fan is not None:
        copies, halves = _of_items(encodings.fan, len(encodings), copies, halves)
    builder.add_tokens(encodings.ids, encodings.lengths, copies, halves)


def _of_items(
    fan: FanOut, items: int, copies: np.ndarray, halves: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many rows have each item, and the half of one of them."""
    row_of = fan.row_of
    half = np.zeros(items, dtype=np.int64)
    half[fan.item_of] = halves[row_of]
    return np.bincount(fan.item_of, weights=copies[row_of], minlength=items).astype(int), half
