"""What the workers of this machine need, before a job is written for them."""

from __future__ import annotations

from importlib.util import find_spec

from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.vllm import named_python
from schemas.errors import MissingExtra
from schemas.records.engine import VLLM
from schemas.training_tasks import JOB_TASKS

PACKAGES = ("torch", "transformers", "safetensors")
"""What every engine of headrace's own imports."""


TRAINING_PACKAGES = (*PACKAGES, "accelerate", "tensorboardX")
"""What a training imports."""


def require_worker_packages(
    task: str,
    packages: tuple[str, ...] = PACKAGES,
    *,
    engine: str | None = None,
    vllm_python: str | None = None,
) -> None:
    """Check that this machine's workers can import what the task's engine needs, and have vLLM's Python.

    The packages are looked for and not imported: that would take seconds.

    Raises:
        MissingExtra: one is not installed; names it and the extras that bring it.
    """
    if engine == VLLM:
        named_python(vllm_python)
    if task in JOB_TASKS.values():
        require_packages(task, TRAINING_PACKAGES, "headrace[cpu,train]")
    elif task_spec(task).engine:
        require_packages(f"task {task}", packages, "headrace[cpu]' or 'headrace[gpu]")


def require_packages(what: str, packages: tuple[str, ...], extras: str) -> None:
    """Check that this machine has the packages; `extras` are what brings them.

    Raises:
        MissingExtra: one is not installed.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{what} needs {', '.join(missing)} on this machine: pip install '{extras}'"
        )
