"""Parts that a manifest names and that are gone: deleted or lost after the job's end."""

from __future__ import annotations

from headrace.process.logs import get_logger
from headrace.storage.store import Store
from producers.records.manifest import parts_of
from schemas.errors import OutputConflict
from schemas.names import output_layout
from schemas.records.manifest import Manifest, parse_manifest

log = get_logger(__name__)


def lost_parts(store: Store, manifest: Manifest) -> list[int]:
    """The chunks whose part the manifest names and a full listing does not show, in order."""
    there = set(parts_of(store))
    return [part.chunk for part in manifest.parts if part.chunk not in there]


def reopen_if_incomplete(store: Store) -> list[int]:
    """The chunks that a finished job has lost; the job has not ended any more where there are any.

    `_SUCCESS` and the manifest go, so that the job can compute what is missing. Parts stay.
    Raises StorageError.
    """
    data = store.read(output_layout.MANIFEST)
    try:
        manifest = None if data is None else parse_manifest(data, store.uri)
    except OutputConflict:  # damaged: written again at the end
        return []
    lost = lost_parts(store, manifest) if manifest and manifest.state == "finished" else []
    if manifest is not None and lost:
        store.delete(output_layout.SUCCESS)
        store.delete(output_layout.MANIFEST)
        log.info("job.resumed", job=manifest.job, chunks=len(lost), reason="parts are gone")
    return lost
