"""The objects of a store as a file system of Arrow, so that data sets are read through the store.

Credentials, endpoint and retries are the store's own; see `headrace/storage/s3_file.py`.
"""

from __future__ import annotations

from typing import Any

import pyarrow.fs as pa_fs

from headrace.storage.store import ObjectInfo, Store


class StoreFiles(pa_fs.FileSystemHandler):  # type: ignore[misc]
    """Reads only; a name is relative to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreFiles) and other._store.uri == self._store.uri

    def __hash__(self) -> int:
        return hash(self._store.uri)

    def get_type_name(self) -> str:
        return "headrace"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        return [_file(self._store.head(path), path) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        prefix = f"{selector.base_dir}/" if selector.base_dir else ""
        return [_file(info, info.name) for info in self._store.list(prefix)]

    def open_input_stream(self, path: str) -> Any:
        return self._store.open(path)

    def open_input_file(self, path: str) -> Any:
        return self._store.open(path)

    def create_dir(self, path: str, recursive: bool) -> None:
        raise NotImplementedError("an output is only read")

    delete_dir = delete_dir_contents = delete_file = delete_root_dir_contents = create_dir
    move = copy_file = open_output_stream = open_append_stream = create_dir


def files_of(store: Store) -> Any:
    """The store as a `pyarrow.fs.FileSystem`."""
    return pa_fs.PyFileSystem(StoreFiles(store))


def _file(info: ObjectInfo | None, path: str) -> Any:
    if info is None:
        return pa_fs.FileInfo(path, pa_fs.FileType.NotFound)
    return pa_fs.FileInfo(path, pa_fs.FileType.File, size=info.size, mtime=info.modified_s)
