"""The gateway's store: where its records are, and which belong to whom.

keys/SHA256.json                          a key's rights
files/ID.json, files/ID.jsonl             a file and its content
batches/ID/batch.json, checked.json, ended.json, cancel, lines.rows, job/…
owners/KEY/files/ID, owners/KEY/batches/ID, owners/KEY/jobs/ID    lists of each key
open/ID                                   batches that have not ended
quota/KEY/NUMBER.json                     what is reserved, see `producers.gateway.access.quota`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.settings import Settings, state_folder
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.gateway.records import R, Record, parse

LISTED = ("files", "batches", "jobs")


@dataclass(frozen=True, slots=True)
class Root:
    """Typed access to the records; every method raises StorageError when the store fails."""

    store: Store

    def read(self, kind: type[R], name: str) -> R | None:
        """The record of this name; None if there is none."""
        data = self.store.read(name)
        return None if data is None else parse(kind, data, f"{self.store.uri}/{name}")

    def create(self, name: str, record: Record) -> bool:
        """Create the record; True if this call did."""
        return self.store.create(name, record.model_dump_json().encode())

    def own(self, owner: str, kind: str, id: str, content: str = "") -> None:
        """Add a name to a list of the owner; safe to call twice."""
        self.store.create(f"owners/{owner}/{kind}/{id}", content.encode() or b"-")

    def disown(self, owner: str, kind: str, id: str) -> None:
        self.store.delete(f"owners/{owner}/{kind}/{id}")

    def owned(self, owner: str, kind: str) -> Iterator[str]:
        """The ids on a list of the owner, the newest first."""
        prefix = f"owners/{owner}/{kind}/"
        for info in self.store.list(prefix):
            yield info.name.removeprefix(prefix)

    def owns(self, owner: str, kind: str, id: str) -> bool:
        return self.store.head(f"owners/{owner}/{kind}/{id}") is not None

    def content_of(self, owner: str, kind: str, id: str) -> str | None:
        """The content that `own` stored with the name; None if the owner has no such entry."""
        data = self.store.read(f"owners/{owner}/{kind}/{id}")
        return None if data is None else data.decode()


def open_root(settings: Settings) -> Root:
    """The store of the setting `gateway_store`; by default `gateway/` in the state folder."""
    uri = settings.gateway_store or str(state_folder() / "gateway")
    # the gateway's own place, not one that a job may name
    return Root(open_store(uri, settings.model_copy(update={"allowed_prefixes": ()})))
