"""Batch inference over text: the public Python API, and what producers and workers both run.

`__all__` lists everything that is public; docs/reference/python.md describes it. A name is imported
when it is first used, so that `import headrace` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headrace.own_packages import find_own_packages_first

find_own_packages_first()

if TYPE_CHECKING:
    from headrace.tasks.contract import Encodings, LoadRequest, Task
    from headrace.tasks.spec import Param, TaskSpec
    from producers.api.entry import run, submit
    from producers.api.job import Job
    from producers.api.options import JobOptions
    from producers.api.results import Output
    from producers.api.results import open_output as open
    from producers.records.snapshot import Snapshot
    from producers.verification.result import VerifyResult
    from schemas.errors import (
        BrokerError,
        ColumnError,
        ConfigError,
        DiskFull,
        HeadraceError,
        InputChanged,
        InputNotFound,
        InputUnreadable,
        JobCancelled,
        JobFailed,
        JobNotFound,
        MissingExtra,
        ModelChanged,
        ModelError,
        ModelRegistryError,
        OutputConflict,
        OutputNotWritable,
        PrecisionRefused,
        SchemaMismatch,
        StorageError,
        UriNotAllowed,
        UsageError,
        VerifyFailed,
        WorkersEnded,
    )

__all__ = [
    "BrokerError",
    "ColumnError",
    "ConfigError",
    "DiskFull",
    "Encodings",
    "HeadraceError",
    "InputChanged",
    "InputNotFound",
    "InputUnreadable",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "JobOptions",
    "LoadRequest",
    "MissingExtra",
    "ModelChanged",
    "ModelError",
    "ModelRegistryError",
    "Output",
    "OutputConflict",
    "OutputNotWritable",
    "Param",
    "PrecisionRefused",
    "SchemaMismatch",
    "Snapshot",
    "StorageError",
    "Task",
    "TaskSpec",
    "UriNotAllowed",
    "UsageError",
    "VerifyFailed",
    "VerifyResult",
    "WorkersEnded",
    "open",
    "run",
    "submit",
]

_HOME = {
    "run": "producers.api.entry",
    "submit": "producers.api.entry",
    "open": "producers.api.results:open_output",
    "Output": "producers.api.results",
    "Job": "producers.api.job",
    "JobOptions": "producers.api.options",
    "Snapshot": "producers.records.snapshot",
    "VerifyResult": "producers.verification.result",
    "Encodings": "headrace.tasks.contract",
    "LoadRequest": "headrace.tasks.contract",
    "Task": "headrace.tasks.contract",
    "Param": "headrace.tasks.spec",
    "TaskSpec": "headrace.tasks.spec",
}
"""Where each public name is made; errors are in `schemas.errors`."""


def __getattr__(name: str) -> Any:
    """The public name, imported now."""
    if name not in __all__:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    module, _, other = _HOME.get(name, "schemas.errors").partition(":")
    found = getattr(importlib.import_module(module), other or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
