"""What the workers of this machine need, before a job is written for them."""

from __future__ import annotations

from importlib.util import find_spec

from headrace.tasks.catalog import task_spec
from schemas.errors import MissingExtra

PACKAGES = ("torch", "transformers", "safetensors")
"""What every engine of headrace's own imports."""


def require_worker_packages(task: str, packages: tuple[str, ...] = PACKAGES) -> None:
    """Check that this machine's workers can import what the task's engine needs.

    The packages are looked for and not imported: that would take seconds.

    Raises:
        MissingExtra: one is not installed; names it and the extras that bring it.
    """
    if not task_spec(task).engine:
        return
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"task {task} needs {', '.join(missing)} on this machine: "
            "pip install 'headrace[cpu]' or 'headrace[gpu]'"
        )
