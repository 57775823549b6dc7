"""Stores a prepared job in its output: plan first, then the record, each only if absent.

job.json of the same id      → that job, from any writer, with the plan beside it
job.json of another id       → OutputConflict
no job.json, but parts       → OutputConflict: results of an unknown job
no job.json, but a plan      → left by a submitter that died, or that is still running:
                                   adopted when it covers the same files and rows
    neither                      → plan, then job.json

Two submitters of one job end with the same plan and the same record: the first plan is kept, and
the record is made from the stored plan, not from the prepared one.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Sequence

from headrace.output.job_record import check_plan, read_job
from headrace.output.plan_file import (
    PlanTable,
    PlanTotals,
    write_plan,
)
from headrace.storage.probe import probe_store
from headrace.storage.store import Store
from producers.submission.conflict import differences
from producers.submission.prepare import PreparedJob
from schemas.errors import DiskFull, OutputConflict
from schemas.names import output_layout
from schemas.records.job import (
    Job,
    Predicted,
)
from schemas.records.precision import PrecisionCheck
from schemas.versions import versions


def create_job(
    store: Store,
    prepared: PreparedJob,
    *,
    now_s: float,
    command: str = "",
    predicted: Predicted | None = None,
    precision: PrecisionCheck | None = None,
    warnings: Sequence[str] = (),
    trace_id: str | None = None,
    span_id: str | None = None,
) -> tuple[Job, bool]:
    """The job in the output, and whether this call made it. Safe to call twice and at once.

    Raises:
        OutputConflict: the output holds another job, a plan of other input, or parts of no job.
        OutputNotWritable: no rights, or the store cannot create only-if-absent.
        DiskFull, StorageError: the store failed.
    """
    probe_store(store)
    existing = read_job(store)
    if existing is not None:
        return _adopt(store, existing, prepared), False
    _refuse_leftovers(store, prepared)
    totals = _store_plan(store, prepared)
    job = Job(
        id=prepared.id,
        output=store.uri,
        spec=prepared.spec,
        options=prepared.options,
        inputs=prepared.inputs,
        id_type=prepared.id_type,
        text_type=prepared.text_type,
        carried=prepared.carried,
        chunks=totals.chunks,
        rows=totals.rows,
        submitted_s=now_s,
        versions=versions(),
        command=command,
        predicted=predicted,
        precision=precision,
        warnings=(*prepared.warnings, *warnings),
        trace_id=trace_id,
        span_id=span_id,
    )
    if store.create(output_layout.JOB, job.model_dump_json(indent=1).encode()):
        return job, True
    existing = read_job(store)
    if existing is None:
        raise OutputConflict(
            f"{store.uri}/{output_layout.JOB} went away while the job was submitted"
        )
    return _adopt(store, existing, prepared), False


def _adopt(store: Store, existing: Job, prepared: PreparedJob) -> Job:
    if existing.id != prepared.id:
        what = "; ".join(differences(existing, prepared.spec, prepared.inputs))
        raise OutputConflict(
            f"{store.uri} holds job {existing.id}, and this is job {prepared.id} ({what}); choose "
            "another output, or submit with the first job's settings to resume it"
        )
    check_plan(existing, PlanTable.load(store), store.uri)
    return existing


def _refuse_leftovers(store: Store, prepared: PreparedJob) -> None:
    """Refuse parts without a job record: they would count as this job's own."""
    found = next(iter(store.list(output_layout.DATA)), None)
    if found is None:
        found = store.head(output_layout.MANIFEST) or store.head(output_layout.SUCCESS)
    if found is None:
        return
    existing = read_job(store)  # another submitter, and a fast worker, since we looked
    if existing is None:
        raise OutputConflict(
            f"{store.uri} holds {found.name} and no {output_layout.JOB}: results of an earlier job, or "
            "not headrace's; choose an empty output"
        )
    _adopt(store, existing, prepared)


def _store_plan(store: Store, prepared: PreparedJob) -> PlanTotals:
    """Store the plan if there is none; returns the totals of the plan in the output."""
    scratch = store.scratch()
    try:
        with _disk_errors(store):
            types = prepared.corpus.types.planned
            totals = write_plan(
                scratch / "plan.parquet", prepared.plan.chunks(), types, prepared.contents
            )
        if store.create_from_file(output_layout.PLAN, scratch / "plan.parquet"):
            return totals
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    stored = PlanTable.load(store)
    if not _fits(stored, prepared):
        existing = read_job(store)
        if existing is not None:
            _adopt(store, existing, prepared)
        raise OutputConflict(
            f"{store.uri} holds a plan for other input, left by a submission that did not end: "
            f"if no process is submitting to it, delete {output_layout.PLAN} in it and submit again"
        )
    return PlanTotals(len(stored), stored.total_rows, int(stored.bytes.sum()))


def _fits(stored: PlanTable, prepared: PreparedJob) -> bool:
    """Whether a plan of unknown origin covers the same rows; its chunks may be of another size."""
    if stored.inputs_digest() != prepared.spec.inputs_digest:
        return False
    # the same files found from another root have other partitions
    first = next(iter(prepared.corpus.files), None)
    ours = {} if first is None else dict(first.file.partitions)
    needed = {column.name for column in prepared.carried if column.name in ours}
    named = all(needed <= dict(file.partitions).keys() for file in stored.files)
    return named and stored.total_rows == prepared.corpus.rows


@contextlib.contextmanager
def _disk_errors(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left for the plan of {store.uri}") from error
        raise
