"""Results by text: one index per job over the ok rows of an earlier output, sorted by text hash.

`_headrace/reuse.arrow` is an Arrow file, uncompressed, so that a host maps it once for all its
workers. Each row has the 16 bytes of the hash as two numbers, the part, and the row in the part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from headrace.storage.store import Store
from schemas.names import output_layout
from schemas.records import part_schema


def write_index(path: Path, store: Store, parts: Iterable[int]) -> int:
    """Index the ok rows of these parts of an output; returns the number of distinct texts.

    Takes 32 bytes of memory per row. If several rows have the same text, the first is kept.
    """
    import pyarrow as pa

    found = [_hashes_of(store, part) for part in parts]
    keys = np.concatenate([k for k, _, _ in found]) if found else np.zeros((0, 2), np.uint64)
    part = np.concatenate([p for _, p, _ in found]) if found else np.zeros(0, np.int32)
    row = np.concatenate([r for _, _, r in found]) if found else np.zeros(0, np.int32)
    order = np.lexsort((row, part, keys[:, 1], keys[:, 0]))
    keys, part, row = keys[order], part[order], row[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = np.any(keys[1:] != keys[:-1], axis=1)
    columns = {
        "high": keys[first, 0],
        "low": keys[first, 1],
        "part": part[first],
        "row": row[first],
    }
    table = pa.table({name: pa.array(values) for name, values in columns.items()}).combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return len(table)


def _hashes_of(store: Store, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes uint64 `[rows, 2]`, part and row numbers of the part's ok rows."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with store.open(output_layout.part(part)) as file:
        table = pq.ParquetFile(file).read(["text_hash", "status"], use_threads=False)
    ok = (
        pc.equal(table["status"].cast("string"), part_schema.OK)
        .combine_chunks()
        .to_numpy(zero_copy_only=False)
    )
    rows = np.flatnonzero(ok).astype(np.int32)
    raw = b"".join(table["text_hash"].take(rows).to_pylist())
    keys = np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return keys, np.full(len(rows), part, dtype=np.int32), rows


class ReuseIndex:
    """An open index. Thread-safe."""

    def __init__(self, table: Any) -> None:
        self._high, self._low, self._part, self._row = (
            table[name].combine_chunks().to_numpy() if table.num_rows else np.zeros(0, np.uint64)
            for name in ("high", "low", "part", "row")
        )

    @classmethod
    def open(cls, store: Store) -> ReuseIndex:
        """Open the index of an output: memory-mapped on a disk, read from an object store.

        Raises:
            FileNotFoundError: the output has none.
        """
        import pyarrow as pa

        if store.is_local:
            source: Any = pa.memory_map(f"{store.uri}/{output_layout.REUSE}")
        else:
            source = store.open(output_layout.REUSE)
        return cls(pa.ipc.open_file(source).read_all())

    def find(self, hashes: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        """Part and row of each of the texts that were scored before."""
        if not hashes or not len(self._high):
            return {}
        listed = list(hashes)
        wanted = np.frombuffer(b"".join(listed), dtype=">u8").astype(np.uint64).reshape(-1, 2)
        at = np.searchsorted(self._high, wanted[:, 0])
        found: dict[bytes, tuple[int, int]] = {}
        for i, (high, low) in enumerate(wanted):
            place = int(at[i])
            while place < len(self._high) and self._high[place] == high:
                if self._low[place] == low:
                    found[listed[i]] = int(self._part[place]), int(self._row[place])
                    break
                place += 1
        return found
