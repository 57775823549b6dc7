"""Names that decide a worker's speed on a job, and what the worker has to load for it."""

from __future__ import annotations

import json

from schemas.records.engine import PACKED
from schemas.records.job import Job, Spec


def model_name(job: Job) -> str:
    return speed_name(job.spec)


def speed_name(spec: Spec) -> str:
    """What decides a worker's speed, beside its device: the task, the model and the precision."""
    engine = "" if spec.engine == PACKED else f" {spec.engine}"
    return f"{spec.task} {spec.model.uri}@{spec.model.revision[:19]} {spec.dtype}{engine}"


def engine_name(spec: Spec) -> str:
    """What runs the model, for records: `packed`, or `transformers (transformers 5.23.0)`."""
    return spec.engine if spec.engine_version is None else f"{spec.engine} ({spec.engine_version})"


def engine_key(job: Job) -> str:
    """What a worker must have loaded; for another name it has to load again."""
    spec = job.spec
    model = spec.model.model_dump()
    wanted = [spec.task, spec.params, model, spec.dtype, spec.max_length, spec.engine]
    wanted.append(spec.engine_version)
    wanted.append(spec.answers_version)  # a job of an earlier one is refused when it is loaded
    return json.dumps(wanted, sort_keys=True)


def speed_key(job: Job) -> str:
    """The job's field in `headrace:speeds` and `headrace:loads`."""
    return f"{job.options.queue} {model_name(job)}"
