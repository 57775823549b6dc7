"""Tasks of one text a row, for texts that are longer than the model: read in windows, brought together.

A window is an item of the row. Labels and vectors of a row are the mean of its windows' logits or
vectors, each counted by its tokens, or the maximum of each number. Entities that overlap are merged
as the pipeline's `stride` does it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, LoadRequest
from headrace.tasks.fan_out import FanOut
from headrace.tasks.items.windows import stride_in
from schemas.errors import ConfigError
from workers.models.tokenizer import special_token
from workers.models.window_encoder import WindowEncoder
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification
from workers.tasks.token_classification import ENTITY, TokenClassification
from workers.tasks.transformer import ItemsTask

LETTERS_PER_TOKEN = 4
"""About so many, for a bound on memory. Chosen."""


class InWindows(ItemsTask):
    """What the tasks here have in common: rows to items."""

    reads_whole_text = True
    shares_tokens = False
    """Whether neighbouring windows share tokens where no option says so."""

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`.

        Raises:
            ConfigError: two texts a row, or a stride of a whole window.
        """
        if request.params.get("text_pairs"):
            raise ConfigError("--long-text window takes one text a row, not a pair")
        super().load(request)
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=False)
        self._windows = WindowEncoder(
            self.tokenizer,
            self.max_length,
            stride_in(request.params, room, is_shared=self.shares_tokens),
            stand_in=special_token(self.config, self.tokenizer, "bos", "eos", "pad"),
            extra=self.extra(),
        )

    def count_items(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """See `SupportsFanOut.count_items`."""
        letters = LETTERS_PER_TOKEN * self.max_length
        return np.array([1 + len(text) // letters for text in texts], dtype=np.int64)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`."""
        return self._windows(texts)


class CombinedWindows(InWindows):
    """Tasks of which a row is one line of numbers."""

    def load(self, request: LoadRequest) -> None:
        self._by_maximum = request.params.get("combine") == "max"
        super().load(request)

    def item_columns(self) -> list[pa.Field]:
        """See `SupportsFanOut.item_columns`."""
        return [pa.field("numbers", pa.list_(pa.float32())), pa.field("tokens", pa.int64())]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        """The numbers of each window, and how many tokens they are of."""
        numbers = self.numbers(batch, output)
        starts = pa.array(np.arange(len(numbers) + 1, dtype=np.int32) * self.width)
        arrays = [pa.ListArray.from_arrays(starts, numbers.reshape(-1)), pa.array(batch.lengths)]
        return pa.record_batch(arrays, schema=pa.schema(self.item_columns()))

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        """See `SupportsFanOut.join`."""
        numbers = items.column(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, self.width)
        tokens = items.column(1).to_numpy(zero_copy_only=False)
        combined = combine(fan, numbers, tokens, by_maximum=self._by_maximum)
        return self.answers_of(_lines(len(fan)), combined)

    @abstractmethod
    def answers_of(self, rows: Encodings, numbers: np.ndarray) -> pa.RecordBatch:
        """The columns of rows, from numbers `[rows, width]`."""


class TextClassificationInWindows(CombinedWindows, TextClassification):
    """See the module."""

    def answers_of(self, rows: Encodings, numbers: np.ndarray) -> pa.RecordBatch:
        return TextClassification.decode(self, rows, numbers)


class FeatureExtractionInWindows(CombinedWindows, FeatureExtraction):
    """See the module."""

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`.

        Raises:
            ConfigError: the model puts a prompt before each text, which later windows would lack.
        """
        super().load(request)
        if self.recipe.prompt:
            raise ConfigError(
                "--long-text window: a prompt would be in the first window only; use "
                "--prompt-name none, or --long-text truncate"
            )

    def answers_of(self, rows: Encodings, numbers: np.ndarray) -> pa.RecordBatch:
        if self.recipe.normalize:
            numbers = numbers / np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), 1e-12)
        return FeatureExtraction.decode(self, rows, numbers)


class TokenClassificationInWindows(InWindows, TokenClassification):
    """See the module."""

    shares_tokens = True

    def item_columns(self) -> list[pa.Field]:
        """See `SupportsFanOut.item_columns`."""
        return self.columns()

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        """See `SupportsFanOut.join`."""
        found = items.column(0).to_pylist()
        rows = [
            merged([found[item] for item in fan.item_of[start:stop].tolist()])
            for start, stop in zip(fan.starts[:-1], fan.starts[1:], strict=True)
        ]
        arrays = [pa.array(rows, pa.list_(ENTITY)), pa.array([False] * len(fan))]
        return pa.record_batch(arrays, schema=pa.schema(self.columns()))


def combine(
    fan: FanOut, numbers: np.ndarray, tokens: np.ndarray, *, by_maximum: bool = False
) -> np.ndarray:
    """Float32 `[rows, width]` from those of the windows, `[items, width]`, and their tokens."""
    mine: np.ndarray = numbers[fan.item_of]
    if not len(fan):
        return mine
    if by_maximum:
        return np.asarray(np.maximum.reduceat(mine, fan.starts[:-1]))
    weights = tokens[fan.item_of].astype(np.float64)[:, None]
    sums = np.add.reduceat(mine * weights, fan.starts[:-1])
    found = sums / np.add.reduceat(weights, fan.starts[:-1])
    one = fan.counts == 1  # as it is without windows, to the last digit
    found[one] = mine[fan.starts[:-1][one]]
    return np.asarray(found, dtype=np.float32)


def merged(windows: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The entities of all windows; of those that overlap the longest, then the surest.

    Source: transformers 5.23, TokenClassificationPipeline.aggregate_overlapping_entities
    """
    found = [entity for window in windows for entity in window]
    if len(windows) < 2:
        return found
    kept: list[dict[str, Any]] = []
    for entity in sorted(found, key=lambda it: it["start"]):
        last = kept[-1] if kept else None
        if last is None or not last["start"] <= entity["start"] < last["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(last):
            kept[-1] = entity
    return kept


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _lines(rows: int) -> Encodings:
    """A batch of so many rows, of one token each."""
    return Encodings(np.zeros(rows, np.int32), np.arange(rows + 1), np.zeros(rows, dtype=bool))
