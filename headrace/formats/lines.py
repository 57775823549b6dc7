"""From the bytes of a file, plain or gzipped, to whole lines, and to units that hold whole lines.

`file` is open to read at random: `seek`, `read`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from headrace.formats.base import DamagedInput, Unit

UNIT_BYTES = 1 << 20  # chosen: little is read in vain if a chunk begins inside a unit
READ_BYTES = 1 << 20
MAX_LINE = 256 << 20  # chosen: five times the largest row that was ever tried; a line is held whole
BOM = b"\xef\xbb\xbf"

Block = tuple[int, bytes]
"""Bytes and their offset: in a plain file their own, in a gzip file the offset of their member."""
Count = Callable[[bytes], int]
"""Counts the rows in whole lines."""


def not_blank(whole: bytes) -> list[bytes]:
    """The lines that are not blank."""
    return [line for line in whole.split(b"\n") if line and not line.isspace()]


def plain_blocks(file: Any, start: int, stop: int) -> Iterator[Block]:
    """The bytes from `start` to `stop`, without a byte order mark."""
    at = start
    while at < stop:
        file.seek(at)  # another stream may have moved the file's position
        data = bytes(file.read(min(max(READ_BYTES, len(BOM)), stop - at)))
        if not data:
            return
        # the bytes keep their places: units are ranges of them
        mark = len(BOM) if at == 0 and data.startswith(BOM) else 0
        yield at + mark, data[mark:]
        at += len(data)


def gzip_blocks(file: Any, start: int, size: int) -> Iterator[Block]:
    """The decompressed bytes of the members from `start` on, without a byte order mark.

    Raises:
        DamagedInput: cut short, or not gzip.
    """
    try:
        for number, (member, data) in enumerate(_members(file, start, size)):
            yield member, data.removeprefix(BOM) if start == 0 and number == 0 else data
    except zlib.error as error:
        raise DamagedInput(f"damaged: {error}") from error


def _members(file: Any, start: int, size: int) -> Iterator[Block]:
    member, engine, is_new = start, zlib.decompressobj(wbits=31), True
    at = start
    while at < size:
        file.seek(at)
        packed = bytes(file.read(min(READ_BYTES, size - at)))
        if not packed:
            break
        at += len(packed)
        while packed:
            if is_new and not packed.strip(b"\0"):
                break  # padding after a member
            out = engine.decompress(packed, READ_BYTES)
            packed, is_new = engine.unconsumed_tail, False
            if out:
                yield member, out
            if engine.eof:
                packed = engine.unused_data
                member, engine, is_new = at - len(packed), zlib.decompressobj(wbits=31), True
    while not is_new and (out := engine.decompress(b"", READ_BYTES)):
        yield member, out
    if not is_new and not engine.eof:
        raise DamagedInput("cut short: its last gzip member does not end")


def whole_lines(blocks: Iterator[Block]) -> Iterator[Block]:
    """The whole lines of each block; the offset is that of the first byte in a plain file.

    Raises:
        DamagedInput: a line is longer than MAX_LINE.
    """
    begun: list[bytes] = []
    held = 0
    at: int | None = None
    for place, data in blocks:
        at = place if at is None else at
        cut = data.rfind(b"\n") + 1
        if not cut:
            begun.append(data)
            held = _checked(held + len(data))
            continue
        yield at, b"".join([*begun, data[:cut]])
        at, begun, held = place + cut, [data[cut:]], len(data) - cut
    if at is not None and held:
        yield at, b"".join(begun)


def plain_units(file: Any, size: int, count: Count) -> Iterator[Unit]:
    """Units of a plain file: ranges of bytes. `text_bytes` are all bytes of the lines."""
    for at, whole in whole_lines(plain_blocks(file, 0, size)):
        yield Unit(count(whole), len(whole), at, at + len(whole))


def gzip_units(file: Any, size: int, count: Count) -> Iterator[Unit]:
    """Units of a gzip file: members; small neighbouring members are one unit.

    A line may begin in one unit and end in the next: it is a row of the first, and the `lead` of
    the second.
    """
    start = lead = rows = weight = held = 0
    begun: list[bytes] = []
    member = 0
    turn: tuple[int, int] | None = None  # the next unit's place, and the bytes held before it
    for place, data in gzip_blocks(file, 0, size):
        if place != member and weight + held >= UNIT_BYTES and turn is None:
            turn = place, held
        member = place
        cut = data.rfind(b"\n") + 1
        if not cut:
            begun.append(data)
            held = _checked(held + len(data))
            continue
        whole = b"".join([*begun, data[:cut]])
        if turn is not None:
            next_start, before = turn
            first = whole.index(b"\n") + 1 if before else 0
            rows += count(whole[:first]) if first else 0
            yield Unit(rows, weight + first, start, next_start, lead)
            lead = int(bool(whole[before:first].strip()))
            start, rows, weight, turn, whole = next_start, 0, 0, None, whole[first:]
        rows += count(whole)
        weight += len(whole)
        begun, held = [data[cut:]], len(data) - cut
    if held:
        rows += count(b"".join(begun))
    yield Unit(rows, weight + held, start, size, lead)


def _checked(size: int) -> int:
    if size > MAX_LINE:
        raise DamagedInput(f"not JSON Lines: a line is longer than {MAX_LINE >> 20} MiB")
    return size
