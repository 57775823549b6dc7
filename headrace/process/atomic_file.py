"""Writes a small file of the user's cache atomically."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write the file and make its folder; concurrent readers see the old or the new file.

    Not synced to disk: it is used for caches, which can be rebuilt.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(handle, "w") as scratch:
        scratch.write(text)
    os.replace(name, path)
