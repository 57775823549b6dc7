"""Which format a file has: by its name, else by its first bytes."""

from __future__ import annotations

SUFFIXES: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".parq", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
}
"""Format → what its files' names end with, in any case."""

HEAD_BYTES = 512
"""What `by_content` wants to see: the white space before a document is shorter."""

READ_AS = "Parquet (.parquet, .parq, .pq) and JSON Lines (.jsonl, .ndjson, also .gz)"
"""For messages."""


def by_name(name: str) -> str | None:
    """The format that the name says; None where it says nothing."""
    low = name.lower()
    return next((f for f, ends in SUFFIXES.items() if low.endswith(ends)), None)


def by_content(head: bytes) -> str | None:
    """The format that a file begins as; None for anything else."""
    if head[:4] in (b"PAR1", b"PARE"):
        return "parquet"
    if head[:2] == b"\x1f\x8b" or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return "jsonl"
    return None
