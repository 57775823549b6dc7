"""Opens an input file by its URI, on a disk or in a bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.storage.store import Store


def open_by_uri(open_store: Callable[[str], Store]) -> InputOpener:
    """A function from an input file's URI to the open file."""
    return InputOpener(open_store)


class InputOpener:
    """Opens an input file by its URI; keeps the store of the last folder."""

    def __init__(self, open_store: Callable[[str], Store]) -> None:
        self._open_store = open_store
        self._last: tuple[str, Store] | None = None

    def __call__(self, uri: str) -> Any:
        store, name = self.place(uri)
        return store.open(name)

    def place(self, uri: str) -> tuple[Store, str]:
        """The store of the file's folder, and its name there."""
        from headrace.storage.uri import split_uri

        root, name = split_uri(uri)
        if self._last is None or self._last[0] != root:
            self._last = (root, self._open_store(root))
        return self._last[1], name
