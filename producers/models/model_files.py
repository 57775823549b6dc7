"""The files that decide a model's answers, in a folder on a disk or in an object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from headrace.storage.store import Store
from headrace.tasks.model_digest import (
    BLOCK_BYTES,
    DECIDING_SUFFIXES,
    IGNORED_FOLDERS,
    IGNORED_NAMES,
    deciding_names,
    folder_digest,
)
from schemas.errors import ModelError

MAX_JSON_BYTES = 256 << 20  # chosen: the largest tokenizer.json in use is under 40 MB


class ModelFiles(Protocol):
    """A model's deciding files, by their names relative to its folder."""

    where: str
    """Folder or URI, for messages."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, in order of name."""

    def open(self, name: str) -> Any:
        """The file, to be read from its start; a context manager."""

    def digest(self) -> str:
        """See `headrace.tasks.model_digest.folder_digest`."""


class FolderFiles:
    """`ModelFiles` of a folder on a disk."""

    def __init__(self, folder: Path, where: str | None = None) -> None:
        self.where = where or str(folder)
        self._folder = folder

    def sizes(self) -> dict[str, int]:
        try:
            return {
                name: (self._folder / name).stat().st_size for name in deciding_names(self._folder)
            }
        except OSError as error:  # a link to a file that is gone, or no rights
            raise ModelError(f"model {self.where} cannot be read: {error}") from error

    def open(self, name: str) -> Any:
        try:
            return (self._folder / name).open("rb")
        except OSError as error:
            raise ModelError(f"model {self.where} cannot be read: {error}") from error

    def digest(self) -> str:
        return folder_digest(self._folder)


class StoreFiles:
    """`ModelFiles` of a prefix in an object store; its digest reads all of them once."""

    def __init__(self, store: Store) -> None:
        self.where = store.uri
        self._store = store
        self._sizes: dict[str, int] | None = None

    def sizes(self) -> dict[str, int]:
        if self._sizes is None:
            listed = {i.name: i.size for i in self._store.list() if is_deciding(i.name)}
            self._sizes = dict(sorted(listed.items()))
        return self._sizes

    def open(self, name: str) -> Any:
        return self._store.open(name)

    def digest(self) -> str:
        return store_digest(self._store, list(self.sizes()))


class InnerFiles:
    """`ModelFiles` of a folder inside a model's folder; the digest is that of the whole."""

    def __init__(self, files: ModelFiles, folder: str) -> None:
        self.where = f"{files.where}/{folder}"
        self._files = files
        self._before = f"{folder.strip('/')}/"

    def sizes(self) -> dict[str, int]:
        return {
            name.removeprefix(self._before): size
            for name, size in self._files.sizes().items()
            if name.startswith(self._before)
        }

    def open(self, name: str) -> Any:
        return self._files.open(self._before + name)

    def digest(self) -> str:
        return self._files.digest()


def read_json(files: ModelFiles, name: str) -> dict[str, Any]:
    """The object in a JSON file of the model; empty where there is no such file.

    Raises:
        ModelError: it is not JSON, or absurdly large.
    """
    found = read_any_json(files, name)
    return found if isinstance(found, dict) else {}


def read_any_json(files: ModelFiles, name: str) -> Any:
    """What a JSON file of the model holds; None where there is no such file.

    Raises:
        ModelError: it is not JSON, or absurdly large.
    """
    size = files.sizes().get(name)
    if size is None:
        return None
    try:
        if size > MAX_JSON_BYTES:
            raise ValueError(f"it has {size:,} bytes")
        with files.open(name) as file:
            return json.loads(bytes(file.read()))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model {files.where}: {name} is not JSON: {error}") from error


def is_deciding(name: str) -> bool:
    """Whether `folder_digest` includes a file of this name."""
    *folders, file = name.split("/")
    if file.startswith(".") or any(f.startswith(".") or f in IGNORED_FOLDERS for f in folders):
        return False
    return Path(file).suffix in DECIDING_SUFFIXES and file not in IGNORED_NAMES


def store_digest(store: Store, names: list[str]) -> str:
    """The same digest as `folder_digest` gives for a folder with these files."""
    whole = hashlib.sha256()
    for name in sorted(names):
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0")
        digest = hashlib.sha256()
        for block in _blocks(store, name):
            digest.update(block)
        whole.update(digest.digest())
    return f"sha256:{whole.hexdigest()}"


def _blocks(store: Store, name: str) -> Iterator[bytes]:
    with store.open(name) as file:
        while block := bytes(file.read(8 * BLOCK_BYTES)):
            yield block
