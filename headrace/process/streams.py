"""Standard output and error that survive the end of their reader: `headrace run 2>&1 | head -n 1`."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def keep_writing() -> None:
    """Discard what is written to a stream whose reader has ended.

    A job must not stop because nothing reads its progress. Streams that were replaced already, as in
    a test, are left alone.
    """
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = _lasting(sys.stdout)
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _lasting(sys.stderr)


class _Sink(io.FileIO):
    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return super().write(data)  # type: ignore[arg-type]


def _lasting(stream: TextIO) -> TextIO:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Sink(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",  # a file name may contain characters that the terminal cannot show
        line_buffering=True,
    )
