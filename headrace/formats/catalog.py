"""The formats of input files: all of them, and which one a file has, by its name or first bytes."""

from __future__ import annotations

from headrace.formats.base import Format
from headrace.formats.jsonl import GZIP, JsonLines
from headrace.formats.jsonl import NAME as JSONL
from headrace.formats.parquet import NAME as PARQUET
from headrace.formats.parquet import Parquet

FORMATS: dict[str, Format] = {PARQUET: Parquet(), JSONL: JsonLines(), GZIP: JsonLines()}
"""The formats by their names in a plan."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    PARQUET: (".parquet", ".parq", ".pq"),
    JSONL: (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
}
"""Suffixes of file names by format; upper and lower case are the same."""

HEAD_BYTES = 512
"""Bytes that `by_content` needs; white space before a document must be shorter."""

READ_AS = "Parquet (.parquet, .parq, .pq) and JSON Lines (.jsonl, .ndjson, also .gz)"
"""For messages."""


def by_name(name: str) -> str | None:
    """The format by the file's name; None if the name does not say."""
    low = name.lower()
    return next((f for f, ends in SUFFIXES.items() if low.endswith(ends)), None)


def by_content(head: bytes) -> str | None:
    """The format by a file's first bytes; None if it is not a known one."""
    if head[:4] in (b"PAR1", b"PARE"):
        return PARQUET
    if head[:2] == b"\x1f\x8b" or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return JSONL
    return None
