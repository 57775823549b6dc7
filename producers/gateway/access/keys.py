"""API keys: shown once when created; only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from headrace.storage.uri import normalise_uri
from producers.gateway.records import SCOPES, KeyRecord, Scope, new_id
from producers.gateway.root import Root
from schemas.errors import ConfigError, JobNotFound

KEPT_S = 5.0
"""Seconds that a record is cached. Chosen: a deleted key stops
working within this time."""
MOST_KEPT = 10_000

_KEY = re.compile(r"hr-[A-Za-z0-9_-]{43}")


def create_key(
    root: Root,
    name: str,
    scopes: Sequence[str],
    prefixes: Sequence[str] = (),
    quota_tokens: int | None = None,
) -> tuple[str, KeyRecord]:
    """A new key and its record; the key itself is not stored and cannot be shown again.

    Raises:
        ConfigError: a scope is not one, a prefix is no address, or the name is taken.
    """
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong or not scopes:
        raise ConfigError(f"scopes are of {', '.join(SCOPES)}, not {', '.join(wrong) or 'none'}")
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise ConfigError("a key's name has 1 to 64 characters that can be printed")
    if any(record.name == name for _, record in list_keys(root)):
        raise ConfigError(f"there is a key of the name {name}")
    given: list[Scope] = [scope for scope in SCOPES if scope in scopes]
    record = KeyRecord(
        id=new_id("key_"),
        name=name,
        scopes=tuple(given),
        prefixes=tuple(normalise_uri(prefix) for prefix in prefixes),
        quota_tokens=quota_tokens,
        created_s=time.time(),
    )
    key = f"hr-{secrets.token_urlsafe(32)}"
    root.create(_place(key), record)
    return key, record


def list_keys(root: Root) -> Iterator[tuple[str, KeyRecord]]:
    """Each key's place in the store and its record, by name of the place."""
    for info in root.store.list("keys/"):
        record = root.read(KeyRecord, info.name)
        if record is not None:
            yield info.name, record


def delete_key(root: Root, name: str) -> KeyRecord:
    """Revoke a key, by its name or id; its jobs and files stay.

    Raises:
        JobNotFound: there is no such key.
    """
    for place, record in list_keys(root):
        if name in (record.name, record.id):
            root.store.delete(place)
            return record
    raise JobNotFound(f"there is no key {name}")


@dataclass(slots=True)
class Keyring:
    """Finds the record of a key, with a short cache; thread-safe."""

    root: Root
    now: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, KeyRecord | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, key: str) -> KeyRecord | None:
        """The record of the key; None: there is no such key. Raises StorageError."""
        if not _KEY.fullmatch(key):
            return None
        place = _place(key)
        with self._lock:
            at, record = self._kept.get(place, (float("-inf"), None))
        if self.now() - at < KEPT_S:
            return record
        record = self.root.read(KeyRecord, place)
        with self._lock:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[place] = (self.now(), record)
        return record

    def has_keys(self) -> bool:
        """Whether there is any key. Raises StorageError."""
        return next(iter(self.root.store.list("keys/")), None) is not None


def _place(key: str) -> str:
    """The name is the digest: neither a leaked store nor the time of a comparison reveals a key."""
    return f"keys/{hashlib.sha256(key.encode()).hexdigest()}.json"
