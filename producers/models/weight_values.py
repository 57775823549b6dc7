"""Looks at a sample of a model's numbers, before anything is queued. No torch.

A worker looks at all of them when it has loaded the model, see `workers.models.load`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headrace.storage.store import PARALLEL_READS
from headrace.tasks.weight_files import BUFFER, LAYER, OTHER_PURPOSE, TABLE
from producers.models.checks import HEADS, LAST_LAYER, POSITIONS, unread_positions
from producers.models.model_files import ModelFiles, read_json
from producers.models.safetensors_header import Place, read_header
from schemas.errors import ModelError

PIECE_BYTES = 64 << 10
PIECES = 8
"""Of a head and of a table of tokens; chosen: a table's rows of unused tokens may be zeros."""
OTHERS = 48
"""Chosen: a training that fails spoils nearly all; with heads and tables under 5 MB are read."""
WIDEST = 8  # required: bytes of the widest number
COMPLEX = "C"
POOLER = re.compile(r"(^|\.)pooler\.")
"""What a model without a head has behind its token vectors, of which no task takes the output."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a sample of one tensor holds."""

    not_finite: bool
    all_not_finite: bool
    zeros: bool


def check_values(files: ModelFiles, head: str | None, where: str) -> Iterator[str]:
    """Warnings on numbers that are NaN or infinite, where the model can do without them.

    `head` is what the architecture ends with. Of each head and table of tokens some pieces are
    read, and the beginning of some of the other tensors, evenly chosen.

    Raises:
        ModelError: complex numbers; NaN or infinity where each row gets it; a head or a table of
            tokens of zeros, with which all rows have the same answer.
    """
    places = dict(_places(files))
    if odd := [name for name, (_, place) in places.items() if place.dtype.startswith(COMPLEX)]:
        raise ModelError(
            f"model {where} has weights of complex numbers ({odd[0]}{', …' if odd[1:] else ''}), of which only the "
            "real part would be taken; take a checkpoint of real numbers"
        )
    heads = {name for name in places if head in HEADS and _is_last_layer(name, places[name][1])}
    tables = {name for name in places if TABLE.search(name)}
    seen = dict(_look(files, places, heads | tables))
    if bad := sorted(name for name in seen if _spoils(name, seen[name], heads, tables)):
        raise ModelError(
            f"model {where}: its weights hold NaN or infinity in {len(bad)} of {len(seen)} tensors that "
            f"were looked at ({bad[0]}{', …' if len(bad) > 1 else ''}): no row would have an answer; the "
            "training that made them failed, take an earlier checkpoint"
        )
    for name in sorted(heads | tables):
        if name in seen and seen[name].zeros:
            raise ModelError(
                f"model {where}: {name} is all zeros in what was read of it: all rows would have the "
                "same answer; was the model saved before it was trained?"
            )
    yield from _harmless(sorted(n for n in seen if seen[n].not_finite), head, tables)


def _harmless(names: Sequence[str], head: str | None, tables: set[str]) -> Iterator[str]:
    """Sentences on weights that are not finite, where rows can have an answer all the same."""
    poolers = [name for name in names if head is None and POOLER.search(name)]
    of_tokens = sorted(tables.intersection(names))
    others = sorted(set(names) - tables - set(poolers))
    for found, words in (
        (of_tokens, ": rows that use them end as not_finite"),
        (poolers, ", which this task does not use"),
        (others, ", by their names for another task: a worker whose model uses them refuses it"),
    ):
        if found:
            some = f"{found[0]}{', …' if len(found) > 1 else ''}"
            yield f"its weights hold NaN or infinity in {some}{words}"


def _is_last_layer(name: str, place: Place) -> bool:
    return bool(LAST_LAYER.search(name)) and len(place.shape) == 2 and not LAYER.match(name)


def _spoils(name: str, seen: Seen, heads: set[str], tables: set[str]) -> bool:
    """Whether what is not finite reaches each row."""
    if any(name.startswith(head.removesuffix("weight")) for head in heads):
        return seen.not_finite
    if name in tables or (OTHER_PURPOSE.search(name) and not LAYER.match(name)):
        return seen.all_not_finite and name in tables
    return seen.not_finite


def _places(files: ModelFiles) -> Iterator[tuple[str, tuple[str, Place]]]:
    """Each tensor's file and place, of those beside config.json; without rows that nothing reads."""
    unread = unread_positions(read_json(files, "config.json"))
    for file_name in files.sizes():
        if file_name.endswith(".safetensors") and "/" not in file_name:
            with files.open(file_name) as file:
                header = read_header(file)
            for name, place in (header.places if header else {}).items():
                read = _without(place, unread) if POSITIONS.search(name) else place
                yield name, (file_name, read)


def _without(table: Place, rows: int) -> Place:
    """The place of a table's other rows."""
    row_bytes = (table.stop - table.start) // max(1, table.shape[0])
    return replace(table, start=min(table.stop, table.start + rows * row_bytes))


def _look(
    files: ModelFiles, places: Mapping[str, tuple[str, Place]], closely: set[str]
) -> Iterator[tuple[str, Seen]]:
    known = [n for n, (_, p) in places.items() if p.dtype in READ and not BUFFER.search(n)]
    others = [name for name in known if name not in closely]
    step = max(1, -(-len(others) // OTHERS))
    chosen = [*others[::step], *closely.intersection(known)]

    def look(name: str) -> Seen:
        file_name, place = places[name]
        with files.open(file_name) as file:
            return sample(file, place, PIECES if name in closely else 1)

    # of a bucket each piece is a request
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        yield from zip(chosen, pool.map(look, chosen), strict=True)


def sample(file: Any, place: Place, pieces: int) -> Seen:
    found = [READ[place.dtype](data) for data in _pieces(file, place, pieces)]
    finite = [np.isfinite(numbers) for numbers in found if len(numbers)]
    return Seen(
        not_finite=not all(part.all() for part in finite),
        all_not_finite=bool(finite) and not any(part.any() for part in finite),
        zeros=bool(finite) and not any(numbers.any() for numbers in found),
    )


def _pieces(file: Any, place: Place, pieces: int) -> Iterator[bytes]:
    """Bytes of evenly chosen places of a tensor; all of a small one."""
    for start in _starts(place.stop - place.start, pieces):
        file.seek(place.start + start)
        yield bytes(file.read(min(PIECE_BYTES + WIDEST, place.stop - place.start - start)))


def _starts(size: int, pieces: int) -> Sequence[int]:
    if size <= PIECE_BYTES * pieces:
        return range(0, size, PIECE_BYTES)
    last, parts = size - PIECE_BYTES, max(1, pieces - 1)
    return [number * last // parts // WIDEST * WIDEST for number in range(pieces)]


def _bfloat16(data: bytes) -> Any:
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


READ: Mapping[str, Callable[[bytes], Any]] = {
    "F64": lambda data: np.frombuffer(data, "<f8"),
    "F32": lambda data: np.frombuffer(data, "<f4"),
    "F16": lambda data: np.frombuffer(data, "<f2"),
    "BF16": _bfloat16,
}
"""From a tensor's bytes to numbers; those of 8 bits and fewer are not looked at."""
