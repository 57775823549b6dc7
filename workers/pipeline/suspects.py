"""Finds poison rows: suspects are scored last, in halves, until each is cleared or confirmed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from headrace.coordination.attempts import SuspectRows
from headrace.tracing.chunk_trace import Observe
from workers.pipeline.assemble import token_counts
from workers.pipeline.forward import score
from workers.pipeline.generating.generate import generate
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.ports import Control, Source
from workers.pipeline.rows import (
    ChunkStats,
    HeldBackResult,
    RowError,
    Window,
)
from workers.pipeline.tokenize import encode_rows


@dataclass(frozen=True, slots=True)
class SuspectTexts:
    """What earlier crashes showed, as text hashes, so that copies of a text are treated alike."""

    poison: dict[bytes, RowError] = field(default_factory=dict)
    groups: tuple[tuple[int, ...], ...] = ()
    suspects: frozenset[bytes] = frozenset()


def score_suspects(
    suspects: SuspectTexts,
    windows: dict[int, Window],
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> dict[bytes, HeldBackResult]:
    """Tokenize and compute each group of suspects alone, with nothing else in flight.

    `windows` holds the windows with suspects, by their first row.
    """
    late: dict[bytes, HeldBackResult] = {}
    at = {start + i: (w, i) for start, w in windows.items() for i in range(len(w))}
    for group in suspects.groups:
        fresh: dict[bytes, int] = {}
        for row in group:
            window, i = at.get(row, (None, 0))
            digest = window.hashes[i] if window is not None else None
            if digest in suspects.suspects and digest not in late:
                fresh.setdefault(digest, row)
        if fresh:
            late.update(_score_group(list(fresh.items()), at, engine, control, observe, stats))
    return late


def _score_group(
    group: list[tuple[bytes, int]],
    at: dict[int, tuple[Window, int]],
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> dict[bytes, HeldBackResult]:
    control.check()
    rows = [row for _, row in group]
    control.forwarding(rows)
    sub = _sub_window([at[row] for row in rows])
    encodings, bad = encode_rows(sub, range(len(rows)), engine.task)
    late = {group[i][0]: HeldBackResult(None, fault=fault) for i, fault in bad.items()}
    kept = [i for i in range(len(rows)) if i not in bad]
    predict = generate if engine.generates else score
    found = predict(encodings, np.array(rows)[kept], engine, control, observe, stats)
    n_tokens, truncated = token_counts(encodings, found.tokens)
    for place, i in enumerate(kept):
        if place in found.faults:
            late[group[i][0]] = HeldBackResult(None, fault=found.faults[place])
        else:
            late[group[i][0]] = HeldBackResult(
                found.values.slice(place, 1), int(n_tokens[place]), bool(truncated[place])
            )
    return late


def _sub_window(picked: list[tuple[Window, int]]) -> Window:
    first = picked[0][0]
    return Window(
        start=first.start,
        carried=first.carried.slice(0, 0),
        texts=[w.texts[i] for w, i in picked],
        hashes=[w.hashes[i] for w, i in picked],
        pairs=None if first.pairs is None else [w.pairs[i] for w, i in picked if w.pairs],
    )


def find_suspects(source: Source, suspicion: SuspectRows) -> SuspectTexts:
    """Row numbers to text hashes; reads the chunk again, only if there are suspects."""
    if not suspicion.groups and not suspicion.poison:
        return SuspectTexts()
    poison: dict[bytes, RowError] = {}
    suspects: set[bytes] = set()
    wanted = suspicion.suspects
    for window in source():
        for i, digest in enumerate(window.hashes):
            row = window.start + i
            if digest is None:
                continue
            if row in suspicion.poison:
                poison[digest] = _verdict(suspicion.poison[row])
            elif row in wanted:
                suspects.add(digest)
    return SuspectTexts(poison, suspicion.groups, frozenset(suspects - poison.keys()))


def _verdict(cause: str) -> RowError:
    did = (
        "took longer than the time limit of a batch"
        if cause == "timeout"
        else "ended its worker's process"
    )
    return RowError(cause, f"this row, computed alone, {did} twice")
