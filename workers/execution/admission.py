"""Whether a job may run on this worker now: its precision, its engine, and its stop flags."""

from __future__ import annotations

from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.engines import version_here
from schemas.errors import OutOfReach
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.model_key import engine_name
from workers.devices.device import dtypes_of, not_served


def check_served(job: Job, device: str, vllm_python: str | None = None) -> None:
    """Check that a worker on this device has the job's precision and engine; another may.

    Raises:
        OutOfReach: it does not.
    """
    dtype = job.spec.dtype
    if task_spec(job.spec.task).needs_model and dtype not in dtypes_of(device):
        raise OutOfReach(f"job {job.id} wants {not_served(dtype, device)}")
    wanted = job.spec.engine_version
    if wanted is not None:
        has = version_here(job.spec.engine, params=job.spec.params, vllm_python=vllm_python)
        if has != wanted:
            raise OutOfReach(
                f"job {job.id} wants {engine_name(job.spec)}, and this worker has "
                f"{has or 'no such engine'}: a job never mixes engines"
            )


def flags_in(store: Store) -> set[str]:
    """The stop flags in the job's output: `cancelled`, `paused`. Raises StorageError."""
    flags = {"cancelled": output_layout.CANCELLED, "paused": output_layout.PAUSED}
    return {flag for flag, name in flags.items() if store.head(name) is not None}
