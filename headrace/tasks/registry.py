"""Task classes by name: ours and those of other packages, from entry points `headrace.tasks`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from headrace.tasks.catalog import IN_WINDOWS, TASKS
from headrace.tasks.contract import Task
from headrace.tasks.items.windows import reads_windows
from headrace.tasks.spec import TaskSpec
from schemas.errors import ConfigError


def load_task(
    name: str,
    points: Iterable[EntryPoint] | None = None,
    params: Mapping[str, Any] = MappingProxyType({}),
) -> Task:
    """A new, not yet loaded task; `points` defaults to what is installed.

    With parameters that ask for windows (`--long-text window`) it is the one that reads them.

    Raises:
        ConfigError: no package offers a task of that name, or what it offers cannot be imported.
    """
    group = IN_WINDOWS if reads_windows(params) else TASKS
    known = {p.name: p for p in (entry_points(group=group) if points is None else points)}
    if name not in known:
        listed = ", ".join(sorted(known)) or "none: is headrace installed in this environment?"
        raise ConfigError(f"there is no task {name!r}; known tasks: {listed}")
    try:
        task = known[name].load()()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"task {name!r} ({known[name].value}) cannot be imported: {error}"
        ) from error
    if not isinstance(task, Task):
        raise ConfigError(
            f"task {name!r} ({known[name].value}) lacks a verb of headrace.tasks.contract.Task"
        )
    return task


def check_columns(
    spec: TaskSpec, fields: Sequence[Any], params: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Check that the loaded task writes only columns that its spec names; `fields` are Arrow's.

    The submission compared the spec's names with those of the carried columns.

    Raises:
        ConfigError: it writes another column.
    """
    named = spec.columns_with(params)
    unknown = [field.name for field in fields if field.name not in named]
    if spec.columns and unknown:
        raise ConfigError(
            f"task {spec.name!r} writes the column {unknown[0]!r}, and its spec names only "
            f"{', '.join(named)}"
        )
