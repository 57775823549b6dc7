"""Small objects in memory: a planner that looks at a file twice asks the store once."""

from __future__ import annotations

import threading

MOST_BYTES = 32 << 20
"""Chosen: ten thousand files of 3 kB; what is past it is read again."""

Key = tuple[str, int, str]
"""URI, size and etag."""


class KeptObjects:
    """Bytes of whole objects, up to a bound. Thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._left = most_bytes
        self._data: dict[Key, bytes] = {}
        self._lock = threading.Lock()

    def add(self, key: Key, data: bytes) -> None:
        """Keep it, where there is room."""
        with self._lock:
            if len(data) <= self._left and key not in self._data:
                self._data[key] = data
                self._left -= len(data)

    def find(self, key: Key) -> bytes | None:
        with self._lock:
            return self._data.get(key)
