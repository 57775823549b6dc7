"""The imports of the four packages, read from their source, and the circles in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
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
    return [i for room in PACKAGES for p in files(room) for i in imports_of(p, p.read_text())]


def room_of(module: str) -> str:
    """The room of a dotted module: its package, or the first folder in it."""
    package, _, rest = module.partition(".")
    first = rest.split(".")[0]
    return f"{package}/{first}" if (ROOT / package / first).is_dir() and first else package


def imports_with_names() -> Iterator[Import]:
    """As `all_imports`, and `from room import module` as an import of the module too."""
    for room in PACKAGES:
        for path in files(room):
            yield from imports_of(path, path.read_text())
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    for alias in node.names:
                        file = path.relative_to(ROOT).as_posix()
                        yield Import(file, node.lineno, f"{node.module}.{alias.name}", False)


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
