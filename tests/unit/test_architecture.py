"""The house as DESIGN.md draws it: which room may import which, and what is paid for when."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAY_IMPORT = {
    "schemas": {"schemas"},
    "headrace": {"headrace", "schemas"},
    "producers": {"producers", "headrace", "schemas"},
    "workers": {"workers", "headrace", "schemas"},
}
TESTS = {"tests", "benchmarks", "deploy"}

HEAVY = {"torch", "transformers", "celery"}
MAY_IMPORT_HEAVY_AT_TOP = {
    ("workers/engines/packed/triton_kernels.py", "torch"),  # itself imported only on a GPU
    ("workers/consumer/app.py", "celery"),
    ("workers/consumer/celery_consumer.py", "celery"),
    ("workers/consumer/celery_pool.py", "celery"),
}

READS_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
MAY_READ_ENVIRONMENT = {"headrace/settings.py"}

DOORS = ("producers.cli", "workers.cli")
NOT_FOR_HELP = {"torch", "transformers", "celery", "pyarrow", "boto3"}


@dataclass(frozen=True)
class Import:
    """One import statement; `at_top` says that importing the file is enough to run it."""

    file: str
    line: int
    module: str
    at_top: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} → {self.module}"


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports_of(path: Path, source: str) -> Iterator[Import]:
    """Every import of a file, also those inside functions and for type checkers only."""
    file = path.relative_to(ROOT).as_posix()

    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, at_top)
            elif isinstance(child, ast.ImportFrom):
                module = _absolute(file, child)
                yield Import(file, child.lineno, module, at_top)
            else:
                yield from walk(child, at_top and not _runs_later(child))

    yield from walk(ast.parse(source), True)


def _runs_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _absolute(file: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = file.removesuffix(".py").split("/")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def all_imports() -> list[Import]:
    return [i for room in MAY_IMPORT for p in files(room) for i in imports_of(p, p.read_text())]


def backward(found: Import) -> bool:
    """Whether the arrow points to a room that the file's room may not look into."""
    room, target = found.file.split("/")[0], found.module.split(".")[0]
    return target in (MAY_IMPORT.keys() | TESTS) - MAY_IMPORT[room]


def paid_too_early(found: Import) -> bool:
    heavy = found.module.split(".")[0]
    return found.at_top and heavy in HEAVY and (found.file, heavy) not in MAY_IMPORT_HEAVY_AT_TOP


def environment_reads(path: Path, source: str) -> Iterator[str]:
    """Where the file takes something out of the environment, by attribute or by name."""
    file = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(source)):
        names = {node.attr} if isinstance(node, ast.Attribute) else set()
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names = {alias.name for alias in node.names}
        if names & READS_ENVIRONMENT:
            yield f"{file}:{getattr(node, 'lineno', 0)}"


def test_imports_point_one_way() -> None:
    arrows = [str(found) for found in all_imports() if backward(found)]
    assert not arrows, "these arrows point back:\n" + "\n".join(arrows)


def test_heavy_modules_are_imported_where_they_are_used() -> None:
    early = [str(found) for found in all_imports() if paid_too_early(found)]
    assert not early, "imported with the file, not where it is used:\n" + "\n".join(early)


def test_only_the_settings_read_the_environment() -> None:
    reads = [
        place
        for room in MAY_IMPORT
        for path in files(room)
        if path.relative_to(ROOT).as_posix() not in MAY_READ_ENVIRONMENT
        for place in environment_reads(path, path.read_text())
    ]
    assert not reads, "the environment is read outside headrace/settings.py:\n" + "\n".join(reads)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_opens_without_the_heavy_modules(door: str) -> None:
    code = f"import sys, {door}; print(*sorted({NOT_FOR_HELP!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"import {door} loads what --help must not pay for"


# -- the test would notice

PRODUCER = ROOT / "producers" / "sub" / "made_up.py"


@pytest.mark.parametrize(
    "source",
    [
        "import workers.engine",
        "from workers import fleet",
        "def late():\n    from workers.cli import main",
        "if TYPE_CHECKING:\n    import workers",
        "try:\n    import tests.conftest\nexcept ImportError:\n    pass",
        "from ...workers import fleet",
    ],
)
def test_an_arrow_back_is_seen_wherever_it_hides(source: str) -> None:
    assert [backward(found) for found in imports_of(PRODUCER, source)] == [True]


def test_an_arrow_that_points_onward_is_fine() -> None:
    source = "import schemas.errors\nfrom producers import cli\nfrom . import near\nimport os"
    assert not any(backward(found) for found in imports_of(PRODUCER, source))


@pytest.mark.parametrize(
    ("source", "early"),
    [
        ("import torch", True),
        ("class A:\n    from torch import nn", True),
        ("try:\n    import transformers.utils\nfinally:\n    pass", True),
        ("def use():\n    import torch", False),
        ("if TYPE_CHECKING:\n    import celery", False),
    ],
)
def test_a_heavy_import_counts_only_when_the_file_runs_it(source: str, early: bool) -> None:
    assert [paid_too_early(found) for found in imports_of(PRODUCER, source)] == [early]


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "os.getenv('A')", "from os import environ"]
)
def test_a_look_into_the_environment_is_seen(source: str) -> None:
    assert len(list(environment_reads(PRODUCER, source))) == 1
