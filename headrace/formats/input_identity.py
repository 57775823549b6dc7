"""A corpus's identity: a digest over its files, as the planner writes it and the worker checks it.

A file on a disk is identified by its modification time, its size and a hash of both ends. A file
that was only touched has another time; if the plan has a hash of all its bytes, it is still
recognized.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from headrace.storage.store import Store
from schemas.records.chunk import InputFile

BLOCK_BYTES = 1 << 20


def files_digest(files: Iterable[InputFile]) -> str:
    """64 hex digits over URI, size and etag of the files, in order."""
    digest = hashlib.sha256()
    for file in files:
        add_to_digest(digest, file)
    return digest.hexdigest()


def add_to_digest(digest: Any, file: InputFile) -> None:
    """Add one file to the digest that names a corpus."""
    # NUL is in no URI and no etag, so two different files never add the same bytes
    digest.update(f"{file.uri}\0{file.size}\0{file.etag}\n".encode("utf-8", "surrogatepass"))


def is_touched(file: InputFile, now: tuple[int, str]) -> bool:
    """Whether only the modification time of a file on a disk changed, and its size and ends did not."""
    before, after = file.etag.split("-"), now[1].split("-")
    return len(before) == len(after) == 3 and before != after and before[1:] == after[1:]


def has_same_bytes(store: Store, name: str, file: InputFile, now: tuple[int, str]) -> bool:
    """Whether a touched file equals the planned one, byte by byte; False if the plan has no hash of it."""
    if file.content is None or not is_touched(file, now):
        return False
    return content_hash(store, name) == file.content


def content_hash(store: Store, name: str) -> str:
    """sha256 of all bytes of the object, read as a stream.

    Raises:
        FileNotFoundError: there is none. StorageError: the store does not answer.
    """
    digest = hashlib.sha256()
    with store.open(name) as source:
        while block := bytes(source.read(BLOCK_BYTES)):
            digest.update(block)
    return digest.hexdigest()
