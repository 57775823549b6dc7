"""`--reuse OUTPUT`: whether an earlier output's answers are the ones this job would compute."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from typing import Any

from headrace.output.job_record import read_job
from headrace.output.reuse_index import write_index
from headrace.process.numbers import plural
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri
from schemas.errors import ConfigError, InputUnreadable, JobNotFound
from schemas.names import output_layout
from schemas.records.job import Spec
from schemas.records.manifest import parse_manifest

SAME: tuple[tuple[str, Callable[[Spec], Any]], ...] = (
    ("task", lambda spec: spec.task),
    ("options of the task", lambda spec: spec.params),
    ("model", lambda spec: spec.model.revision),
    ("dtype", lambda spec: spec.dtype),
    ("max-length", lambda spec: spec.max_length),
    ("engine", lambda spec: (spec.engine, spec.engine_version)),
    ("version of its answers", lambda spec: spec.answers_version),
    ("text pairs", lambda spec: spec.pair_source is not None),
)
"""What must be equal, so that the same text has the same answer."""


def reusable(output: str, spec: Spec, open_store: Callable[[str], Store]) -> tuple[str, str]:
    """The output's URI, and the sha256 of its manifest, which goes into the job's spec.

    Raises:
        JobNotFound: the output holds no job that has ended.
        ConfigError: its answers are of another model, task or precision; says what differs.
        InputUnreadable: parts of it are gone.
    """
    store = open_store(normalise_uri(output))
    earlier, manifest = read_job(store), store.read(output_layout.MANIFEST)
    if earlier is None or manifest is None:
        raise JobNotFound(f"{store.uri} holds no job that has ended; --reuse needs one")
    other = [name for name, of in SAME if of(earlier.spec) != of(spec)]
    if other:
        raise ConfigError(
            f"--reuse {store.uri}: its answers are not those of this job: other {', '.join(other)}"
        )
    gone = _lost_parts(store, manifest)
    if gone:
        raise InputUnreadable(
            f"--reuse {store.uri}: {plural(len(gone), 'part')} gone, the first is "
            f"{output_layout.part(gone[0])}: headrace resume computes what is missing"
        )
    return store.uri, hashlib.sha256(manifest).hexdigest()


def _lost_parts(store: Store, manifest: bytes) -> list[int]:
    there = {output_layout.chunk_of_part(info.name) for info in store.list(output_layout.DATA)}
    parts = parse_manifest(manifest, store.uri).parts
    return [part.chunk for part in parts if part.chunk not in there]


def store_index(store: Store, earlier: Store) -> None:
    """Build the job's index of the earlier output, if it does not exist yet."""
    if store.head(output_layout.REUSE) is not None:
        return
    data = earlier.read(output_layout.MANIFEST)
    if data is None:
        raise JobNotFound(f"{earlier.uri} has no manifest any more; --reuse needs it")
    parts = [part.chunk for part in parse_manifest(data, earlier.uri).parts]
    scratch = store.scratch()
    try:
        write_index(scratch / "reuse.arrow", earlier, parts)
        store.create_from_file(output_layout.REUSE, scratch / "reuse.arrow")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
