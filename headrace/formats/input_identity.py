"""A corpus's identity: a digest over its files, as the planner writes it and the worker checks it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from schemas.records.chunk import InputFile


def files_digest(files: Iterable[InputFile]) -> str:
    """64 hex digits over URI, size and etag of the files, in order."""
    digest = hashlib.sha256()
    for file in files:
        add_to_digest(digest, file)
    return digest.hexdigest()


def add_to_digest(digest: Any, file: InputFile) -> None:
    """Add one file to the digest that names a corpus."""
    # no URI and no etag contains NUL, so that no file can pass for another
    digest.update(f"{file.uri}\0{file.size}\0{file.etag}\n".encode("utf-8", "surrogatepass"))
