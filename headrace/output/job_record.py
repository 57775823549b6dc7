"""A job read from its output, with its plan checked."""

from __future__ import annotations

from headrace.output.plan_file import PlanTable
from headrace.storage.store import Store
from schemas.errors import JobNotFound, OutputConflict
from schemas.names import output_layout
from schemas.records.job import Job, parse_job


def read_job(store: Store) -> Job | None:
    """The job in an output; None when there is none.

    Raises:
        OutputConflict: there is a record that cannot be read.
    """
    data = store.read(output_layout.JOB)
    return None if data is None else parse_job(data, f"{store.uri}/{output_layout.JOB}")


def require_job(store: Store) -> Job:
    """The job in an output.

    Raises:
        JobNotFound: there is none.
        OutputConflict: there is a record that cannot be read.
    """
    job = read_job(store)
    if job is None:
        raise JobNotFound(f"{store.uri} holds no job: there is no {output_layout.JOB}")
    return job


def check_plan(job: Job, stored: PlanTable, where: str) -> None:
    """Check that the plan is the one that the job was made with.

    Raises:
        OutputConflict: chunks, rows or files differ.
    """
    same = (len(stored), stored.total_rows) == (job.chunks, job.rows)
    if not same or stored.inputs_digest() != job.spec.inputs_digest:
        raise OutputConflict(
            f"{where}/{output_layout.PLAN} was changed by hand: it does not belong to job {job.id}"
        )
