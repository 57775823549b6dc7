"""Reads the text of a row from the input; only if the user asked for texts."""

from __future__ import annotations

from functools import cached_property, partial

import pyarrow as pa

from headrace.formats.base import Span
from headrace.formats.opener import InputOpener
from headrace.formats.text_column import as_bytes, plain_column
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from schemas.errors import HeadraceError
from schemas.records.chunk import Chunk, Piece

MOST_CHARACTERS = 400
"""Chosen: enough to see what is wrong with a text, and the page stays small."""


class TextReader:
    """Finds the texts of an output's rows in its input."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._open_file = InputOpener(partial(open_store, settings=settings))

    @cached_property
    def _plan(self) -> PlanTable:
        return PlanTable.load(self._store)

    def __call__(self, chunk: int, column: str, row: int) -> str | None:
        """The text in this row of the chunk, cut if long; None where it is null or out of reach."""
        try:
            found, row = _place(self._plan.chunk(chunk), row)
            skip = found.skip + row if found.skip >= 0 else -1
            span = Span(found.start, found.stop, skip, found.first_row + row, 1)
            for batch in self._open_file(found.file).read(span, [column]):
                return _shown(as_bytes(plain_column(batch, column))[0])
        except (OSError, ValueError, IndexError, pa.ArrowException, HeadraceError):
            return None  # the input may be gone by now; the report is about the output
        return None


def _place(chunk: Chunk, row: int) -> tuple[Piece, int]:
    """The piece that has a row of the chunk, and the row's number in it."""
    for piece in chunk.pieces:
        if row < piece.rows:
            return piece, row
        row -= piece.rows
    raise IndexError(f"chunk {chunk.number} has no such row")


def _shown(raw: bytes | None) -> str | None:
    """The text for a page; invalid UTF-8 becomes replacement characters."""
    if raw is None:
        return None
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
