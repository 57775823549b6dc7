"""Predictions of an earlier output, looked up by text and copied instead of computed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.output.reuse_index import ReuseIndex
from headrace.storage.store import Store
from schemas.names import output_layout
from workers.pipeline.rows import HeldBackResult

Reuse = Callable[[Collection[bytes]], Mapping[bytes, HeldBackResult]]
"""From text hashes to the predictions found."""

_PARTS_KEPT = 2  # chosen: a nightly corpus meets its earlier parts in order


class EarlierOutput:
    """An earlier output whose rows may be copied; thread-safe."""

    def __init__(self, index: ReuseIndex, store: Store) -> None:
        self._index = index
        self._store = store
        self._parts: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def answers(self, schema: pa.Schema) -> Reuse:
        """A look-up that returns values in the task's schema."""

        def look_up(hashes: Collection[bytes]) -> dict[bytes, HeldBackResult]:
            by_part: dict[int, list[tuple[int, bytes]]] = {}
            for digest, (part, row) in self._index.find(hashes).items():
                by_part.setdefault(part, []).append((row, digest))
            found: dict[bytes, HeldBackResult] = {}
            for part, rows in sorted(by_part.items()):
                found |= self._copy(part, sorted(rows), schema)
            return found

        return look_up

    def _copy(
        self, part: int, rows: list[tuple[int, bytes]], schema: pa.Schema
    ) -> dict[bytes, HeldBackResult]:
        with self._lock:
            table = self._part(part, schema)
        picked = (
            table.take(pa.array([row for row, _ in rows])).unify_dictionaries().combine_chunks()
        )
        columns = [picked[f.name].combine_chunks().cast(f.type) for f in schema]
        values = pa.RecordBatch.from_arrays(columns, schema=schema)
        tokens, cuts = picked["n_tokens"].to_pylist(), picked["truncated"].to_pylist()
        return {
            digest: HeldBackResult(values.slice(i, 1), int(tokens[i]), bool(cuts[i]))
            for i, (_, digest) in enumerate(rows)
        }

    def _part(self, part: int, schema: pa.Schema) -> pa.Table:
        if part not in self._parts:
            with self._store.open(output_layout.part(part)) as file:
                names = [*schema.names, "n_tokens", "truncated"]
                self._parts[part] = pq.ParquetFile(file).read(names, use_threads=False)
            while len(self._parts) > _PARTS_KEPT:
                self._parts.popitem(last=False)
        self._parts.move_to_end(part)
        return self._parts[part]
