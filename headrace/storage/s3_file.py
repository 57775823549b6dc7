"""An object of a bucket as a file: each read is one ranged GET, retried like any other call.

A small object is one GET of all of it, at the first read.

This does not use Arrow's S3 file system. Its client (Arrow 26) gives up on a 503 whose body is
longer than the requested range, and has credentials, region and timeouts of its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

SMALL_BYTES = 128 << 10
"""Chosen: on a usual line as long as the way there and back; Parquet is read in three pieces or more."""


class RangedFile(io.RawIOBase):
    """Random reads through `fetch(start, stop)`; unbuffered, since Parquet reads whole columns."""

    def __init__(self, size_bytes: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size_bytes = size_bytes
        self._fetch = fetch
        self._at = 0
        self._whole: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        if start + offset < 0:
            raise ValueError(f"a place before the file's start: {start + offset}")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size_bytes
        if size is not None and size >= 0:
            stop = min(self._at + size, stop)
        if stop <= self._at:
            return b""
        data = self._bytes(self._at, stop)
        self._at += len(data)
        return data

    def _bytes(self, start: int, stop: int) -> bytes:
        if self._size_bytes > SMALL_BYTES:
            return self._fetch(start, stop)
        if self._whole is None:
            self._whole = self._fetch(0, self._size_bytes)
        return self._whole[start:stop]

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_ranged(size_bytes: int, fetch: Callable[[int, int], bytes]) -> Any:
    """A `pyarrow.NativeFile` over `fetch`; our errors from `fetch` are raised unchanged."""
    import pyarrow as pa

    return pa.PythonFile(RangedFile(size_bytes, fetch), mode="r")
