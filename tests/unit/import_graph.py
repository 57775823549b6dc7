"""The imports of the four packages, read from their source, and the circles in them."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("schemas", "headrace", "producers", "workers")


@dataclass(frozen=True)
class Import:
    """One import statement; `at_top` says that importing the file is enough to run it."""

    file: str
    line: int
    module: str
    at_top: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} → {self.module}"


@cache
def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports_of(path: Path, source: str) -> Iterator[Import]:
    """Every import of a file, also those inside functions and for type checkers only."""
    return _imports_in(path.relative_to(ROOT).as_posix(), ast.parse(source))


def _imports_in(file: str, tree: ast.AST) -> Iterator[Import]:
    for node, at_top in _statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, at_top)
        elif isinstance(node, ast.ImportFrom):
            yield Import(file, node.lineno, _absolute(file, node), at_top)


def _statements(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """What holds statements, and whether importing the file runs it; no expression holds any."""
    waiting = deque([(tree, True)])
    while waiting:
        node, at_top = waiting.popleft()
        yield node, at_top
        inside = at_top and not _runs_later(node)
        held = (n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.expr))
        waiting.extend((child, inside) for child in held)


def _runs_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _absolute(file: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = file.removesuffix(".py").split("/")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def all_imports() -> list[Import]:
    return _imports_of_all_files()[0]


@cache
def room_of(module: str) -> str:
    """The room of a dotted module: its package, or the first folder in it."""
    package, _, rest = module.partition(".")
    first = rest.split(".")[0]
    return f"{package}/{first}" if (ROOT / package / first).is_dir() and first else package


def imports_with_names() -> list[Import]:
    """As `all_imports`, and `from room import module` as an import of the module too."""
    return [found for imports in _imports_of_all_files() for found in imports]


@cache
def _imports_of_all_files() -> tuple[list[Import], list[Import]]:
    """All imports, and those of names from modules; each file is parsed once in a process."""
    imports, names = list[Import](), list[Import]()
    for path in (path for room in PACKAGES for path in files(room)):
        file, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())
        imports += _imports_in(file, tree)
        for node, _ in _statements(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    names.append(Import(file, node.lineno, f"{node.module}.{alias.name}", False))
    return imports, names


def components(onward: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components. Source: Tarjan, Depth-first search, 1972."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in onward[node]:
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            at = stack.index(node)
            found.append(set(stack[at:]))
            del stack[at:]

    for node in sorted(onward):
        if node not in number:
            visit(node)
    return found
