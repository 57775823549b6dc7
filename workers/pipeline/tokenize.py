"""Tokenizes a window: each distinct text once, without error rows. On the CPU, ahead of the device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from headrace.tasks.contract import Encodings, PartRead, SupportsFanOut, SupportsPartRead, Task
from schemas.errors import error_type_of
from workers.pipeline.reuse import Reuse
from workers.pipeline.rows import (
    RowError,
    TokenizedWindow,
    Window,
)

# Chosen: this much text fills max-length with every tokenizer here, except for runs of white space
# and words of over 100 letters; then the prefix grows until it does.
LONG_TEXT = 100_000
# Chosen: longer than a word that a tokenizer reads as words (BERT's give up at 100 letters).
CUT_WORD = 1_000
# Chosen: as many items as a window has rows at most, so that they take as much memory.
WINDOW_ITEMS = 8_192


def cut_by_items(window: Window, task: Task) -> Iterator[Window]:
    """The window in pieces of about `WINDOW_ITEMS` items; one row is never cut.

    Without fan-out it is one piece.
    """
    if not isinstance(task, SupportsFanOut):
        yield window
        return
    good = [row for row, text in enumerate(window.texts) if isinstance(text, str)]
    texts = [str(window.texts[row]) for row in good]
    pairs = None if window.pairs is None else [window.pairs[row] for row in good]
    counts = np.ones(len(window), dtype=np.int64)
    counts[good] = np.maximum(task.count_items(texts, pairs), 1)
    total = np.cumsum(counts)
    first = spent = 0
    while first < len(window):
        stop = max(first + 1, int(np.searchsorted(total, spent + WINDOW_ITEMS, side="right")))
        yield window.slice(first, stop)
        first, spent = stop, int(total[stop - 1])


def tokenize_window(
    window: Window,
    task: Task,
    *,
    poison: Mapping[bytes, RowError],
    suspects: Collection[bytes] = (),
    reuse: Reuse | None = None,
) -> TokenizedWindow:
    """The window's distinct texts as token ids.

    `poison` and `suspects` are text hashes. A poison text is an error in every row; a suspect
    text is held back for later, so that copies of a poison text do not crash the process again. A
    text for which `reuse` has a prediction is not encoded.
    """
    known = reuse({d for d in window.hashes if d is not None}) if reuse is not None else {}
    faults: dict[int, RowError] = {}
    held_back: dict[int, bytes] = {}
    first: dict[bytes, int] = {}
    unique: list[int] = []
    copy_of = np.full(len(window), -1, dtype=np.int64)
    for row, (text, digest) in enumerate(zip(window.texts, window.hashes, strict=True)):
        if isinstance(text, RowError) or digest is None:
            faults[row] = text if isinstance(text, RowError) else RowError("null_text", "no text")
        elif digest in poison:
            faults[row] = poison[digest]
        elif digest in suspects or digest in known:
            held_back[row] = digest
        else:
            at = first.setdefault(digest, len(unique))
            if at == len(unique):
                unique.append(row)
            copy_of[row] = at
    encodings, bad = encode_rows(window, unique, task)
    if bad:
        unique, copy_of = _without(unique, copy_of, bad, faults)
    return TokenizedWindow(
        window, np.array(unique, dtype=np.int64), copy_of, encodings, faults, held_back, known
    )


def _without(
    unique: list[int], copy_of: np.ndarray, bad: Mapping[int, RowError], faults: dict[int, RowError]
) -> tuple[list[int], np.ndarray]:
    """Remove the texts that failed to encode; every row with such a text gets the error."""
    for row, at in enumerate(copy_of):
        if int(at) in bad:
            faults[row] = bad[int(at)]
    new_place = np.cumsum([at not in bad for at in range(len(unique))]) - 1
    new_place = np.append(np.where([at in bad for at in range(len(unique))], -1, new_place), -1)
    return [row for at, row in enumerate(unique) if at not in bad], new_place[copy_of]


def encode_rows(
    window: Window, rows: Sequence[int], task: Task
) -> tuple[Encodings | None, dict[int, RowError]]:
    """Token ids of these rows, and an error for each that raised, by position in `rows`."""
    texts = [str(window.texts[r]) for r in rows]
    pairs = [window.pairs[r] for r in rows] if window.pairs is not None else None
    if not texts:
        return None, {}
    part = _part_read(task)
    if pairs is None and part != "all" and any(len(t) > LONG_TEXT for t in texts):
        texts = [t if len(t) <= LONG_TEXT else _enough_of(t, task, part) for t in texts]
    try:
        return task.encode(texts, pairs), {}
    except Exception:
        return _encode_singly(texts, pairs, task)


def _part_read(task: Task) -> PartRead:
    if isinstance(task, SupportsFanOut) and task.reads_whole_text:
        return "all"
    return task.part_read if isinstance(task, SupportsPartRead) else "beginning"


def _enough_of(text: str, task: Task, part: PartRead) -> str:
    """A piece that fills max-length, so that a text of 50 MB costs no more than a long text.

    A shorter piece must give the same tokens: where a piece cuts a word, its last tokens are others.
    """
    size = LONG_TEXT
    while size < len(text):
        try:
            if _gives_the_same(_piece(text, size, part), _piece(text, size - CUT_WORD, part), task):
                return _piece(text, size, part)
        except Exception:
            return text  # the caller encodes row by row and finds the error
        size *= 4
    return text


def _piece(text: str, size: int, part: PartRead) -> str:
    return text[:size] if part == "beginning" else text[-size:]


def _gives_the_same(piece: str, shorter: str, task: Task) -> bool:
    one, other = task.encode([piece]), task.encode([shorter])
    return (
        bool(one.truncated.all() and other.truncated.all())
        and np.array_equal(one.ids, other.ids)
        and np.array_equal(one.offsets, other.offsets)
    )


def _encode_singly(
    texts: Sequence[str], pairs: Sequence[str] | None, task: Task
) -> tuple[Encodings | None, dict[int, RowError]]:
    good: list[int] = []
    bad: dict[int, RowError] = {}
    for at, text in enumerate(texts):
        try:
            task.encode([text], None if pairs is None else [pairs[at]])
            good.append(at)
        except Exception as error:
            bad[at] = RowError(error_type_of(error), str(error)[:500])
    if not good:
        return None, bad
    again = task.encode(
        [texts[i] for i in good], None if pairs is None else [pairs[i] for i in good]
    )
    return again, bad
