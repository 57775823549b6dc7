"""The text of a row, read from the input; only where a person asked for texts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.uri import split_uri
from schemas.errors import HeadraceError

MOST_CHARACTERS = 400
"""Chosen: enough to see what is wrong with a text, and the page stays small."""


def read_text(uri: str, column: str, row: int, settings: Settings) -> str | None:
    """The text in this row of an input file, cut if long; None where it is null or out of reach."""
    folder, name = split_uri(uri)
    try:
        with open_store(folder, settings).open(name) as file, pq.ParquetFile(file) as source:
            first = 0
            for group in range(source.num_row_groups):
                rows = source.metadata.row_group(group).num_rows
                if first <= row < first + rows:
                    values = source.read_row_group(group, columns=[column])[column]
                    return _shown(values[row - first])
                first += rows
    except (OSError, KeyError, pa.ArrowException, HeadraceError):
        return None  # the input may be gone by now; the report is about the output
    return None


def _shown(value: pa.Scalar) -> str | None:
    """The text for a page: what is not valid UTF-8 shows as replacement characters."""
    if not value.is_valid:
        return None
    raw = value.as_buffer().to_pybytes() if hasattr(value, "as_buffer") else str(value).encode()
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
