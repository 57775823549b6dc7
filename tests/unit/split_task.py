"""A fake task with fan-out: a row becomes one item for each of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings
from headrace.tasks.fan_out import FanOut
from tests.unit.one_chunk import QueueTask


class SplitTask(QueueTask):
    """Column `words`: the digest of each word of the row. Equal words of a window are one item."""

    reads_whole_text = False

    def count_items(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        return np.array([len(text.split()) for text in texts], dtype=np.int64)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        rows = [text.split() for text in texts]
        words = sorted({word for row in rows for word in row})
        at = {word: i for i, word in enumerate(words)}
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
        item_of = np.array([at[word] for row in rows for word in row], dtype=np.int64)
        return replace(super().encode(words), fan=FanOut(starts, item_of, rows))

    def item_columns(self) -> list[pa.Field]:
        return [pa.field("length", pa.int32()), pa.field("digest", pa.string())]

    def columns(self) -> list[pa.Field]:
        return [pa.field("words", pa.list_(pa.string()))]

    def decode(self, batch: Encodings, output: object) -> pa.RecordBatch:
        texts = list(batch.extra or ())
        self._raise_if_marked("decode", texts)
        lengths = pa.array([len(text) for text in texts], pa.int32())
        return pa.record_batch(
            [lengths, pa.array(output, pa.string())], schema=pa.schema(self.item_columns())
        )

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        rows = list(fan.extra or ())
        self._raise_if_marked("join", [" ".join(row) for row in rows])
        digests = items.column("digest").take(pa.array(fan.item_of))
        lists = pa.ListArray.from_arrays(pa.array(fan.starts, pa.int32()), digests)
        return pa.record_batch([lists], schema=pa.schema(self.columns()))
