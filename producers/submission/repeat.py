"""The settings that make a stored job again, for `retry --errors`. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from headrace.setting_fields import declared_settings
from headrace.tasks.catalog import BUILT_IN, task_spec
from schemas.records.job import Job, Options, Spec

_SPECIAL: dict[str, Callable[[Job], Any]] = {
    "model": lambda job: job.spec.model.uri if _needs_model(job) else None,
    "revision": lambda job: job.spec.model.revision if _needs_model(job) else None,
    "text_column": lambda job: job.spec.text_column or None,
    "columns": lambda job: ",".join(job.spec.columns) or None,
    "precision_floor": lambda job: job.precision.floor if job.precision else None,
    "accept_precision": lambda job: (job.precision and job.precision.accepted) or None,
    "task_params": lambda job: json.dumps(_params(job)[1]) if _params(job)[1] else None,
}
"""Settings that a job's record has in another form."""

NOT_REPEATED = {
    "workers": "this machine's",
    "threads": "this machine's",
    "device": "this machine's",
    "vllm_python": "this machine's",
    "registry": "this user's",
    "pattern": "the files are those of the plan",
    "date": "the files are those of the plan",
    "literal": "the files are those of the plan",
    "allow_empty": "the files are those of the plan",
    "chunk_rows": "the rows left are fewer",
    "chunk_bytes": "the rows left are fewer",
    "precision_rows": "the check is kept with the precision",
    "reuse": "the job itself is reused",
    "deadline": "it was the first run's",
    "completion_window": "it was the first run's",
    "price_per_hour": "of the workers of today",
    "on_finish": "it is a secret and in no record",
    "wait_for": "the input is there",
    "give_up_after": "how long this command waits",
    **{
        name: "of this machine's access to the store"
        for name, it in declared_settings().items()
        if it.group == "Object store"
    },
}
"""Options of a job that belong to the command and not to the job, and why."""


def repeated_settings(job: Job) -> dict[str, Any]:
    """The settings that give the same spec again; None means the default.

    Each option of a job is here or in `NOT_REPEATED`, which a test holds.
    """
    found: dict[str, Any] = dict(_params(job)[0])
    for name in declared_settings():
        if name in _SPECIAL:
            found[name] = _SPECIAL[name](job)
        elif name not in NOT_REPEATED and name in Spec.model_fields:
            found[name] = getattr(job.spec, name)
        elif name not in NOT_REPEATED and name in Options.model_fields:
            found[name] = getattr(job.options, name)
    return found


def _params(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """The task's parameters that have options of their own, and the others."""
    task = task_spec(job.spec.task)
    own = {p.name for p in task.params} if job.spec.task in BUILT_IN else set()
    params = job.spec.params
    return (
        {k: v for k, v in params.items() if k in own},
        {k: v for k, v in params.items() if k not in own},
    )


def _needs_model(job: Job) -> bool:
    return task_spec(job.spec.task).needs_model
