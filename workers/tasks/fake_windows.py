"""The fake task with texts in windows: a row is many items, and its answer shows each of them.

With `{"long_text": "window"}` a text is cut into pieces of `piece` letters (default: 10). `join`
gives the length and the digest of the whole text, made of the pieces: those of the fake task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, LoadRequest
from headrace.tasks.fan_out import FanOut
from workers.tasks.fake import FakeTask, digest_of


class FakeTaskInWindows(FakeTask):
    """See the module."""

    reads_whole_text = True

    def load(self, request: LoadRequest) -> None:
        super().load(request)
        self._piece = int(request.params.get("piece", 10))

    def count_items(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """See `SupportsFanOut.count_items`."""
        return np.array([len(self._pieces(text)) for text in texts], dtype=np.int64)

    def item_columns(self) -> list[pa.Field]:
        """See `SupportsFanOut.item_columns`."""
        return [pa.field("piece", pa.string())]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        rows = [self._pieces(text) for text in texts]
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
        items = super().encode([piece for row in rows for piece in row])
        return replace(items, fan=FanOut(starts, np.arange(len(items))))

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        texts = list(batch.extra or ())
        self._raise_if_marked("decode", texts)
        return pa.record_batch(
            [pa.array(texts, pa.string())], schema=pa.schema(self.item_columns())
        )

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        """See `SupportsFanOut.join`."""
        pieces = items.column(0).to_pylist()
        whole = [
            "".join(pieces[item] for item in fan.item_of[start:stop].tolist())
            for start, stop in zip(fan.starts[:-1], fan.starts[1:], strict=True)
        ]
        lengths = pa.array([len(text) for text in whole], pa.int32())
        digests = pa.array([digest_of(text) for text in whole], pa.string())
        return pa.record_batch([lengths, digests], schema=pa.schema(self.columns()))

    def _pieces(self, text: str) -> list[str]:
        """A marker stays whole, since what it does is looked for in an item."""
        if "__" in text:
            return [text]
        return [text[at : at + self._piece] for at in range(0, len(text) or 1, self._piece)]
