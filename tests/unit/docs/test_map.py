"""The documentation as a whole: every page can be reached, and names what exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")
# Terms that every other page is written in; each is one thing everywhere.
NOUNS = {"job", "chunk", "batch", "task", "message", "part", "receipt", "manifest", "worker"}
PATH = re.compile(
    r"`((?:tests|producers|workers|headrace|schemas|benchmarks|deploy|docs)/[\w./*{},-]+)"
)


def reached(start: Path) -> set[Path]:
    """The pages that links lead to from the first one, itself included."""
    seen, waiting = set[Path](), [start]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            waiting += [
                (page.parent / target).resolve() for target in LINK.findall(page.read_text())
            ]
    return seen


def glossary(page: str) -> list[tuple[str, str]]:
    """Each term with its name in the code."""
    return re.findall(r"^\| ([\w -]+) \| [^|]+ \| `([\w.]+)` \|$", page, re.MULTILINE)


def is_defined(name: str) -> bool:
    """Whether the last part is a class, function or value of the module before it."""
    module, _, wanted = name.rpartition(".")
    path = ROOT / (module.replace(".", "/") + ".py")
    if not path.exists():
        return False
    return wanted in {
        defined for node in ast.parse(path.read_text()).body for defined in _names(node)
    }


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def missing_paths(page: str) -> list[str]:
    """Paths of this repository that a page names and that do not exist; `*` and `{a,b}` allowed."""
    return [
        path
        for found in PATH.findall(page)
        for path in _expanded(found.rstrip("."))
        if not glob(str(ROOT / path))
    ]


def _expanded(path: str) -> list[str]:
    braces = re.search(r"\{([^}]*)\}", path)
    if braces is None:
        return [path]
    head, tail = path[: braces.start()], path[braces.end() :]
    return [whole for each in braces.group(1).split(",") for whole in _expanded(head + each + tail)]


def test_every_page_is_reached_from_the_index() -> None:
    pages = set(DOCS.rglob("*.md"))
    assert len(pages) > 50
    assert {str(p.relative_to(DOCS)) for p in pages - reached(DOCS / "index.md")} == set()


def rooms(page: str) -> set[str]:
    """The folders that the first tree of a page names, two spaces a level: `producers/planning`."""
    found, above = set[str](), list[str]()
    for indent, name in re.findall(r"^( *)(\w+)/ ", page.split("```")[1], re.MULTILINE):
        above = [*above[: len(indent) // 2], name]
        found.add("/".join(above))
    return found


def test_the_tree_of_the_house_is_the_tree_of_the_code() -> None:
    drawn = rooms((DOCS / "development" / "house.md").read_text())
    assert len(drawn) > 30
    packages = ("schemas", "headrace", "producers", "workers")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert drawn == {path.parent.relative_to(ROOT).as_posix() for path in files}


def test_a_tree_is_read_by_its_indents() -> None:
    page = "```\na/  x\n  cli.py  y\n  b/  z\n    c/  z\n  d/  → e/ f\n```"
    assert rooms(page) == {"a", "a/b", "a/b/c", "a/d"}


def test_the_readme_leads_to_the_index() -> None:
    assert DOCS / "index.md" in reached(ROOT / "README.md")


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=str)
def test_links_to_headings_lead_to_one(page: Path) -> None:
    lost = [
        f"{target}#{anchor}"
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text())
        if anchor not in anchors((page.parent / target if target else page).read_text())
    ]
    assert lost == []


def anchors(page: str) -> set[str]:
    """Headings as GitHub makes them into anchors."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_an_anchor_is_the_heading_in_small_letters_without_marks() -> None:
    assert anchors("# A `b`, c\n## Start, end\n") == {"a-b-c", "start-end"}


def test_a_page_without_a_link_to_it_is_found(tmp_path: Path) -> None:
    for name, text in (("index.md", "[a](a.md#x)"), ("a.md", "[i](index.md)"), ("b.md", "")):
        (tmp_path / name).write_text(text)
    assert reached(tmp_path / "index.md") == {tmp_path / "index.md", tmp_path / "a.md"}


def test_the_glossary_has_each_term_once_with_its_definition_in_the_code() -> None:
    page = (DOCS / "concepts.md").read_text()
    terms = [term for term, _ in glossary(page)]
    assert terms == sorted(set(terms)), "in the order of the alphabet, each once"
    assert set(terms) >= NOUNS
    assert page.count("\n| ") - len(terms) < 10, "a row of the glossary without a name in code"
    assert [name for _, name in glossary(page) if not is_defined(name)] == []


@pytest.mark.parametrize("name", ["schemas.records.job.Nothing", "schemas.nothing.Job", "Job"])
def test_a_name_that_the_code_does_not_define_is_found(name: str) -> None:
    assert glossary(f"| job | one run | `{name}` |") == [("job", name)]
    assert not is_defined(name)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=str)
def test_files_of_this_repository_that_a_page_names_exist(page: Path) -> None:
    assert missing_paths(page.read_text()) == []


def test_a_file_that_is_gone_is_found() -> None:
    page = "`headrace/settings.py`, `tests/unit/docs/test_{map,gone}.py -k x` and `docs/*.md`"
    assert missing_paths(page) == ["tests/unit/docs/test_gone.py"]
