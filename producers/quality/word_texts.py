"""Texts that contain a word, read from the input of a job; only if a person asked for texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from headrace.formats.opener import InputOpener, span_of
from headrace.formats.text_column import as_bytes, plain_column
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from schemas.errors import HeadraceError

MOST_ROWS = 20_000
"""Chosen: a second of reading; a word that carries a drift is in far fewer rows."""
MOST_CHARACTERS = 120


def texts_with(
    words: Sequence[str], store: Store, column: str, settings: Settings, each: int = 2
) -> dict[str, list[str]]:
    """Word → some texts that have it, cut around it; the first 20,000 rows are searched.

    A word without a text among them is left out; so are all where the input is gone by now.
    """
    found: dict[str, list[str]] = {}
    wanted = {word: _pattern(word) for word in words if word.strip("#")}
    for text in _texts(store, column, settings):
        for word, pattern in wanted.items():
            if len(found.get(word, ())) < each and (match := pattern.search(text)):
                found.setdefault(word, []).append(_around(text, match.start()))
        if all(len(found.get(word, ())) >= each for word in wanted):
            break
    return found


def _pattern(word: str) -> re.Pattern[str]:
    """Matches the whole word; for a piece of a word, only its letters."""
    piece = word.removeprefix("##")
    bound = r"\b" if piece == word and word.isalnum() else ""
    return re.compile(f"{bound}{re.escape(piece)}{bound}", re.IGNORECASE)


def _texts(store: Store, column: str, settings: Settings) -> Iterator[str]:
    seen = 0
    try:
        open_file = InputOpener(partial(open_store, settings=settings))
        for piece in (piece for chunk in PlanTable.load(store) for piece in chunk.pieces):
            for batch in open_file(piece.file).read(span_of(piece), [column]):
                for raw in as_bytes(plain_column(batch, column)):
                    seen += 1
                    if raw is not None:
                        yield raw.decode("utf-8", "replace")
            if seen >= MOST_ROWS:
                return
    except (OSError, ValueError, pa.ArrowException, HeadraceError):
        return  # the input may be gone by now


def _around(text: str, at: int) -> str:
    start = max(0, at - MOST_CHARACTERS // 2)
    piece = text[start : start + MOST_CHARACTERS].replace("\n", " ")
    return ("…" if start else "") + piece + ("…" if start + MOST_CHARACTERS < len(text) else "")
