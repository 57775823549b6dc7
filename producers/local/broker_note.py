"""Where the Redis of a job is that `headrace run` drives on this machine, for the user's other terminals.

A note in the user's own state folder for as long as the job is driven. One that a killed process
left behind names a socket that is gone, and is passed over.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from schemas.records.job import Job


@contextlib.contextmanager
def advertise_local_broker(folder: Path, job: Job, url: str) -> Iterator[None]:
    """Leave the note for the block's life; where it cannot be written, nothing else is lost."""
    note = _note(folder, job)
    with contextlib.suppress(OSError):
        note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = note.with_suffix(f".{os.getpid()}")
        part.write_text(url)
        part.replace(note)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)


def find_local_broker(folder: Path, job: Job) -> str | None:
    """The Redis of this user's process that drives the job on this machine; None: there is none."""
    try:
        url = _note(folder, job).read_text()
    except OSError:
        return None
    socket = url.removeprefix("redis+socket://").partition("?")[0]
    return url if Path(socket).exists() else None


def _note(folder: Path, job: Job) -> Path:
    return folder / "running" / job.key
