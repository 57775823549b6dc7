"""The house as DESIGN.md draws it: which room may import which, and what is paid for when."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit.import_graph import (
    PACKAGES,
    ROOT,
    Import,
    all_imports,
    components,
    files,
    imports_with_names,
    room_of,
)

GROUND = {"schemas", "schemas/names", "schemas/records", "headrace"}
"""What every room of headrace, producers and workers may import; `headrace` is its settings."""

MAY_IMPORT = {
    "schemas": set(),
    "schemas/records": {"schemas"},
    "schemas/names": {"schemas", "schemas/records"},
    # what both sides run
    "headrace/tasks": {"schemas", "schemas/names", "schemas/records"},
    "headrace": {"headrace/tasks"},
    "headrace/process": set(),
    "headrace/http": {"headrace/process"},
    "headrace/storage": {"headrace/process"},
    "headrace/queue": {"headrace/process"},
    "headrace/coordination": {"headrace/storage", "headrace/process"},
    "headrace/formats": {"headrace/storage", "headrace/process"},
    "headrace/models": {"headrace/storage"},
    "headrace/output": {"headrace/formats", "headrace/storage"},
    "headrace/profiles": {"headrace/tasks", "headrace/storage"},
    "headrace/tracing": {"headrace/coordination", "headrace/process", "headrace/storage"},
    "headrace/telemetry": {"headrace/tracing", "headrace/process"},
    # control, from the plan to the person at a terminal
    "producers/planning": set(),
    "producers/capacity": set(),
    "producers/models": set(),
    "producers/local": set(),
    "producers/records": set(),
    "producers/scaling": set(),
    "producers/submission": {"producers/planning", "producers/capacity", "producers/models",
                             "producers/local"},
    "producers/verification": {"producers/planning"},
    "producers/quality": set(),
    "producers/retraining": set(),
    "producers/pages": set(),
    "producers/report": {"producers/records", "producers/pages", "producers/quality"},
    "producers/inspection": {"producers/capacity"},
    "producers/tracking": {"producers/records"},
    "producers/control": {"producers/tracking", "producers/scaling", "producers/capacity",
                          "producers/records", "producers/report"},
    "producers/terminal": {"producers/submission", "producers/verification", "producers/quality", "producers/records",
                           "producers/inspection", "producers/training"},
    "producers/driver": {"producers/submission", "producers/control", "producers/capacity",
                         "producers/records", "producers/local", "producers/report"},
    "producers/api": {"producers/driver", "producers/submission", "producers/records",
                      "producers/verification", "producers/inspection", "producers/capacity",
                      "producers/local", "producers/terminal"},
    "producers/gateway": {"producers/driver", "producers/submission", "producers/records",
                          "producers/inspection", "producers/models", "producers/quality",
                          "producers/capacity", "producers/pages"},
    "producers/training": {"producers/capacity", "producers/models", "producers/planning",
                           "producers/quality", "producers/submission"},
    "producers/demo": set(),
    "producers/commands": {"producers/*"},
    "producers": {"producers/commands"},
    # execution, from the device to the host
    "workers/devices": set(),
    "workers/models": {"workers/devices"},
    "workers/engines": {"workers/models", "workers/devices"},
    "workers/batching": {"workers/devices"},
    "workers/tasks": {"workers/engines", "workers/models", "workers/devices"},
    "workers/pipeline": {"workers/batching"},
    "workers/execution": {"workers/pipeline", "workers/tasks", "workers/models",
                          "workers/batching", "workers/devices"},
    "workers/fleet": {"workers/devices"},
    "workers/precision": {"workers/fleet", "workers/models", "workers/batching",
                          "workers/devices"},
    "workers/online": {"workers/pipeline", "workers/batching", "workers/models", "workers/devices",
                       "workers/fleet"},
    "workers/training": {"workers/execution", "workers/pipeline", "workers/batching",
                         "workers/tasks", "workers/models", "workers/devices"},
    "workers/demo": set(),
    "workers/consumer": {"workers/execution", "workers/training", "workers/models",
                         "workers/engines", "workers/devices"},
    "workers": {"workers/*"},
}  # fmt: skip
"""Which room may import which; rooms of producers and workers may import all of headrace too."""

FACE = "headrace/__init__.py"
BEHIND_THE_FACE = {"producers/api", "producers/records", "producers/verification"}
"""What `import headrace` offers is made in producers; a name of it is imported when it is used
(docs/about/decisions/0011-python-api.md). No other file of headrace looks there."""

MOST_FILES = 14
TESTS = {"tests", "benchmarks", "deploy"}

HEAVY = {"torch", "transformers", "celery"}
MAY_IMPORT_HEAVY_AT_TOP = {
    ("workers/engines/packed/triton_kernels.py", "torch"),  # itself imported only on a GPU
    ("workers/consumer/app.py", "celery"),
    ("workers/consumer/celery_consumer.py", "celery"),
    ("workers/consumer/celery_pool.py", "celery"),
    ("workers/consumer/celery_loader.py", "celery"),
    ("workers/training/token_trainer.py", "torch"),  # itself imported where a training runs
    ("workers/training/token_trainer.py", "transformers"),
}

READS_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
MAY_READ_ENVIRONMENT = {"headrace/settings.py"}

PRINTS = {"rich", "typer", "click"}
MAY_PRINT = (
    "producers/cli",  # cli.py and the options of its commands
    "producers/commands/",
    "producers/terminal/",
    "producers/task_options.py",
    "producers/api/progress.py",  # the bar of a program that asked for it
    "workers/cli.py",
    "headrace/process/entrypoint.py",
    "headrace/process/version_option.py",
    "headrace/process/setting_options.py",  # makes the options of both command lines
    "headrace/process/logs.py",  # colours for the log of a fleet at a terminal
)

DOORS = ("producers.cli", "workers.cli")
NOT_FOR_HELP = {"torch", "transformers", "celery", "pyarrow", "boto3", "pydantic"}


@cache
def allowed(room: str) -> set[str]:
    """Every room that this one may import."""
    named = MAY_IMPORT[room]
    package = room.split("/")[0]
    every = set() if package == "schemas" or room == "headrace/tasks" else GROUND
    if package in ("producers", "workers"):
        every = every | {r for r in MAY_IMPORT if r.split("/")[0] == "headrace"}
    if f"{package}/*" in named:
        every = every | {r for r in MAY_IMPORT if r.startswith(f"{package}/")}
    return named | every | {room}


def backward(found: Import) -> bool:
    """Whether the arrow points to a room that the file's room may not look into."""
    target = found.module.split(".")[0]
    if target in TESTS:
        return True
    if found.file == FACE and room_of(found.module) in BEHIND_THE_FACE:
        return False
    room = room_of(found.file.removesuffix(".py").replace("/", "."))
    return target in PACKAGES and room_of(found.module) not in allowed(room)


def circles() -> list[list[str]]:
    """Files that import one another, directly or through others; none is the aim."""
    modules = {p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
               for room in PACKAGES for p in files(room)}  # fmt: skip
    onward: dict[str, set[str]] = {m: set() for m in modules}
    for found in imports_with_names():
        source = found.file.removesuffix(".py").replace("/", ".")
        onward[source] |= {found.module} & modules
    return [sorted(found) for found in components(onward) if len(found) > 1]


def paid_too_early(found: Import) -> bool:
    heavy = found.module.split(".")[0]
    return found.at_top and heavy in HEAVY and (found.file, heavy) not in MAY_IMPORT_HEAVY_AT_TOP


def prints(found: Import) -> bool:
    """Whether a file that only returns values imports what prints."""
    package, _, rest = found.module.partition(".")
    terminal = package in PRINTS or (package, rest.split(".")[0]) == ("producers", "terminal")
    return terminal and not found.file.startswith(MAY_PRINT)


def print_calls(path: Path, source: str) -> Iterator[str]:
    """Calls of `print`, and uses of `sys.stdout` and `sys.stderr`."""
    file = path.relative_to(ROOT).as_posix()
    if file.startswith(MAY_PRINT):
        return
    for node in ast.walk(ast.parse(source)):
        called = isinstance(node, ast.Call) and _is_name(node.func, "print")
        stream = (
            isinstance(node, ast.Attribute)
            and node.attr in ("stdout", "stderr")
            and _is_name(node.value, "sys")
        )
        if called or stream:
            yield f"{file}:{getattr(node, 'lineno', 0)}"


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def environment_reads(path: Path, source: str) -> Iterator[str]:
    """Where the file takes something out of the environment, by attribute or by name."""
    file = path.relative_to(ROOT).as_posix()
    if not any(name in source for name in READS_ENVIRONMENT):
        return
    for node in ast.walk(ast.parse(source)):
        names = {node.attr} if isinstance(node, ast.Attribute) else set()
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names = {alias.name for alias in node.names}
        if names & READS_ENVIRONMENT:
            yield f"{file}:{getattr(node, 'lineno', 0)}"


def test_imports_point_one_way() -> None:
    arrows = [str(found) for found in all_imports() if backward(found)]
    assert not arrows, "these arrows point back:\n" + "\n".join(arrows)


def test_every_room_is_in_the_table() -> None:
    rooms = {
        room_of(p.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."))
        for room in PACKAGES
        for p in files(room)
    }
    assert rooms == MAY_IMPORT.keys(), "a new room says here what it may import"


def test_the_table_itself_has_no_circle() -> None:
    onward = {room: {r for r in allowed(room) if r in MAY_IMPORT} - {room} for room in MAY_IMPORT}
    assert [c for c in components(onward) if len(c) > 1] == []


def test_no_files_import_one_another() -> None:
    assert circles() == []


def test_a_circle_is_seen() -> None:
    assert components({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})[0] == {"a", "b", "c"}


def test_no_folder_is_too_full_to_be_read() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    names: dict[str, int] = {}
    for file in tracked:
        folder, _, name = file.rpartition("/")
        if name.endswith(".py") and name != "__init__.py":
            names[folder] = names.get(folder, 0) + 1
    assert {f: n for f, n in names.items() if n > MOST_FILES} == {}


def test_heavy_modules_are_imported_where_they_are_used() -> None:
    early = [str(found) for found in all_imports() if paid_too_early(found)]
    assert not early, "imported with the file, not where it is used:\n" + "\n".join(early)


def test_only_the_settings_read_the_environment() -> None:
    reads = [
        place
        for room in PACKAGES
        for path in files(room)
        if path.relative_to(ROOT).as_posix() not in MAY_READ_ENVIRONMENT
        for place in environment_reads(path, path.read_text())
    ]
    assert not reads, "the environment is read outside headrace/settings.py:\n" + "\n".join(reads)


def test_only_commands_and_the_terminal_print() -> None:
    arrows = [str(found) for found in all_imports() if prints(found)]
    calls = [c for p in files("producers") for c in print_calls(p, p.read_text())]
    assert not arrows + calls, "these print, or know a terminal:\n" + "\n".join(arrows + calls)


@pytest.mark.parametrize("door", DOORS)
def test_an_entry_point_loads_without_the_heavy_modules(door: str) -> None:
    code = f"import sys, {door}; print(*sorted({NOT_FOR_HELP!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"import {door} loads what --help must not pay for"
