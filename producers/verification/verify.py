"""`headrace verify`: a job recounted from its input and its output alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from headrace.formats.base import RowReader
from headrace.formats.input_identity import is_touched
from headrace.formats.opener import InputOpener, etag_of
from headrace.output.job_record import check_plan, read_job
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings
from headrace.storage.store import Store
from producers.verification.recount import ChunkCount, recount
from producers.verification.result import VerifyResult
from schemas.errors import InputUnreadable, JobNotFound
from schemas.names import output_layout
from schemas.records.chunk import Chunk, InputFile
from schemas.records.job import Job
from schemas.records.manifest import (
    Manifest,
    ManifestPart,
    Receipt,
)


def verify(
    store: Store,
    settings: Settings,
    *,
    now_s: float,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyResult:
    """Recount the job in the output; reads its input and its parts, one chunk at a time.

    `progress` is called with the number of done and of all chunks. An unfinished output is
    recounted as far as it goes.

    Raises:
        JobNotFound: the output holds no job.
        OutputConflict: its record or plan was changed by hand.
        UriNotAllowed: its input is outside the allowed prefixes.
        StorageError: a store does not answer.
    """
    from headrace.storage.open import open_store

    job = read_job(store)
    if job is None:
        raise JobNotFound(f"{store.uri} holds no job of headrace: no {output_layout.JOB}")
    plan = PlanTable.load(store)
    check_plan(job, plan, store.uri)
    result = VerifyResult(job, now_s, chunks=job.chunks)
    manifest = _read_manifest(store, result)
    sizes = _list_parts(store, result)
    finished = result.state == "finished" or store.head(output_layout.SUCCESS) is not None
    inputs = _Inputs(partial(open_store, settings=settings), job, plan, result)
    recorded = {part.chunk: part for part in manifest.parts} if manifest else {}
    lines = hashlib.sha256()
    for chunk in plan:
        if progress:
            progress(chunk.number, job.chunks)
        name = output_layout.part(chunk.number)
        if sizes[chunk.number] < 0:
            if finished or chunk.number in recorded:
                result.wrong("missing_part", name, "is not there")
            continue
        count = recount(store, job, chunk, inputs.reader, int(sizes[chunk.number]), plan.types)
        lines.update(f"{name} {count.sha256}\n".encode())
        _add(result, name, count)
        _check_record(store, result, chunk, count, recorded.get(chunk.number), manifest is not None)
    if progress:
        progress(job.chunks, job.chunks)
    result.parts_sha256 = lines.hexdigest()
    if manifest is not None:
        _check_manifest(result, manifest)
    return result


def _add(result: VerifyResult, name: str, count: ChunkCount) -> None:
    result.parts += 1
    result.rows += count.rows
    result.ok += count.ok
    result.errors += count.errors
    result.bytes += count.bytes
    result.errors_by_type += count.errors_by_type
    for kind, message in count.problems.items():
        result.wrong(kind, name, message)


def _list_parts(store: Store, result: VerifyResult) -> np.ndarray:
    """Sizes of the parts, int64 `[chunks]`, -1 if there is none; foreign files are reported."""
    sizes = np.full(result.chunks, -1, dtype=np.int64)
    for info in store.list(output_layout.DATA):
        chunk = output_layout.chunk_of_part(info.name)
        if chunk is None or chunk >= result.chunks or info.name != output_layout.part(chunk):
            result.wrong("foreign_part", info.name, "is not a part of this job's plan")
        else:
            sizes[chunk] = info.size
    return sizes


# -- what the job wrote down about itself


def _read_manifest(store: Store, result: VerifyResult) -> Manifest | None:
    data = store.read(output_layout.MANIFEST)
    mark = store.read(output_layout.SUCCESS)
    if data is None:
        if mark is not None:
            result.wrong(
                "manifest", output_layout.SUCCESS, f"exists without {output_layout.MANIFEST}"
            )
        return None
    result.manifest_sha256 = hashlib.sha256(data).hexdigest()
    if mark is not None and _marked(mark) != result.manifest_sha256:
        result.wrong(
            "manifest", output_layout.SUCCESS, "names another manifest: one of them was changed"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValueError as error:
        result.wrong("manifest", output_layout.MANIFEST, f"cannot be read: {type(error).__name__}")
        return None
    result.state = manifest.state
    if manifest.state == "finished" and mark is None:
        result.wrong(
            "manifest", output_layout.SUCCESS, "is missing, and the manifest says finished"
        )
    return manifest


def _marked(mark: bytes) -> str | None:
    """The manifest's sha256 in a `_SUCCESS`; None where it names none."""
    try:
        found = json.loads(mark)
        return str(found["manifest_sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_record(
    store: Store,
    result: VerifyResult,
    chunk: Chunk,
    count: ChunkCount,
    recorded: ManifestPart | None,
    has_manifest: bool,
) -> None:
    """Compare the part with its line in the manifest, or with its receipt if there is no manifest."""
    name = output_layout.part(chunk.number)
    known: ManifestPart | Receipt | None = recorded
    if known is None and has_manifest:
        if result.state == "finished":
            result.wrong("manifest", name, "is not in the manifest")
        return
    if known is None:
        data = store.read(output_layout.receipt(chunk.number))
        try:
            known = None if data is None else Receipt.model_validate_json(data)
        except ValueError:
            known = None  # receipts are advisory, and made again
    if known is None:
        return
    by = "manifest" if recorded else "receipt"
    if known.sha256 != count.sha256:
        result.wrong("changed_bytes", name, f"its sha256 is not the one in its {by}")
    elif (known.rows, known.ok, known.errors) != (count.rows, count.ok, count.errors):
        result.wrong("manifest", name, f"its rows are not those that its {by} counts")


def _check_manifest(result: VerifyResult, manifest: Manifest) -> None:
    job, totals = result.job, manifest.totals
    facts: dict[str, tuple[object, object]] = {
        "job": (manifest.job, job.id),
        "inputs_digest": (manifest.inputs_digest, job.spec.inputs_digest),
        "model_revision": (manifest.model_revision, job.spec.model.revision),
        "planned_rows": (totals.planned_rows, job.rows),
    }
    if manifest.state == "finished":
        facts |= {
            "parts": (len(manifest.parts), result.chunks),
            "rows": (totals.rows, result.rows),
            "ok": (totals.ok, result.ok),
            "errors": (totals.errors, result.errors),
        }
    for name, (said, counted) in facts.items():
        if said != counted:
            result.wrong(
                "manifest", output_layout.MANIFEST, f"{name} is {said} and must be {counted}"
            )


# -- the input


class _Inputs:
    """The open input file; each file is checked once, when it is reached."""

    def __init__(
        self, open_store: Callable[[str], Store], job: Job, plan: PlanTable, result: VerifyResult
    ) -> None:
        self._open_file = InputOpener(open_store)
        self._job = job
        self._planned = _rows_by_file(plan)
        self._result = result
        self._uri: str | None = None
        self._reader: RowReader | None = None

    def reader(self, file: InputFile) -> RowReader | None:
        """The open file, or None where the input is gone or not readable any more."""
        if self._uri != file.uri:
            self._uri = file.uri
            self._reader = self._opened(file)
        return self._reader

    def _opened(self, file: InputFile) -> RowReader | None:
        store, name = self._open_file.place(file.uri)
        try:
            now = etag_of(store, name, file.format)
            if now is None:
                self._result.wrong("input_missing", file.uri, "is not there any more")
                return None
            if is_touched(file, now):
                self._result.notes.append(f"{file.uri}: touched, same bytes")
            elif now != (file.size, file.etag):
                self._result.wrong("input_changed", file.uri, "is not the file that was planned")
            reader = self._open_file(replace(file, size=now[0], etag=now[1]))
        except (InputUnreadable, OSError) as error:
            self._result.wrong("input_changed", file.uri, f"cannot be read any more: {error}")
            return None
        planned, rows = self._planned[file.uri], reader.rows
        if rows is None:
            return reader
        if planned != rows and (self._job.spec.limit is None or planned > rows):
            self._result.wrong(
                "input_rows", file.uri, f"has {rows} rows, and {planned} were planned"
            )
        return reader


def _rows_by_file(plan: PlanTable) -> dict[str, int]:
    rows: Counter[str] = Counter()
    for piece in (piece for chunk in plan for piece in chunk.pieces):
        rows[piece.file.uri] += piece.rows
    return rows
