"""Pages, help, docstrings and comments are plain English: usual words, short sentences."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from headrace.settings import Settings
from producers.cli import app as producer_app
from tests.unit.command_groups import group_of
from tests.unit.docs.prose import (
    CODE_SENTENCE_MEAN,
    blocks,
    faults,
    found_words,
    note_faults,
    note_sentences,
    notes,
    sentences,
    words,
)
from workers.cli import app as worker_app

ROOT = Path(__file__).parents[3]
# Texts of a demo and of a calibration, in the English of reviews.
CORPORA = {"producers/demo/words.py", "workers/engines/packed/int8.py"}
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_is_easy_to_read(page: Path) -> None:
    assert list(faults(page.read_text())) == []


def test_help_is_in_usual_words() -> None:
    texts = [field.description or "" for field in Settings.model_fields.values()]
    for app in (producer_app, worker_app):
        for command in group_of(app).commands.values():
            texts += [command.help or "", *(getattr(p, "help", "") or "" for p in command.params)]
    assert len(texts) > 200
    assert [(found_words(text), text) for text in texts if found_words(text)] == []


def messages(source: str) -> list[tuple[int, str]]:
    """Strings of several words in a module that are no docstrings: what it may print or raise."""
    nodes = list(ast.walk(ast.parse(source)))
    docstrings = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        (node.lineno, node.value)
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and " " in node.value.strip()
        and id(node) not in docstrings
    ]


@pytest.mark.parametrize("package", ["schemas", "headrace", "producers", "workers"])
def test_messages_are_in_usual_words(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {found_words(text)}: {text}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in CORPORA
        for line, text in messages(path.read_text())
        if found_words(text)
    ]
    assert found == []


@pytest.mark.parametrize("package", ["schemas", "headrace", "producers", "workers"])
def test_docstrings_and_comments_are_easy_to_read(package: str) -> None:
    sources = {path: path.read_text() for path in sorted((ROOT / package).rglob("*.py"))}
    found = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path, source in sources.items()
        for fault in note_faults(source)
    ]
    assert found == []
    lengths = [
        words(sentence)
        for source in sources.values()
        for _, note in notes(source)
        for sentence in note_sentences(note)
    ]
    assert len(lengths) > 200
    assert sum(lengths) / len(lengths) < CODE_SENTENCE_MEAN


def test_files_of_a_deployment_are_in_usual_words() -> None:
    files = [
        ROOT / "docker-compose.yml",
        *(p for p in (ROOT / "deploy").rglob("*.*") if p.is_file()),
    ]
    assert len(files) > 20
    found = {str(path.relative_to(ROOT)): found_words(path.read_text()) for path in files}
    assert {path: words for path, words in found.items() if words} == {}


def test_a_message_is_found_and_a_docstring_is_not() -> None:
    source = 'def f():\n    """Nobody calls it."""\n    raise ValueError(f"{1} is with nobody")\n'
    assert messages(source) == [(3, " is with nobody")]


BAD = {
    "Nobody reads this.": "1: 'nobody'",
    "The chunk\nin hand is lost.": "1: 'in hand'",
    "one two " * 41: "1: a paragraph of 82 words",
    "# Title\n\n- " + "word " * 46 + "end.": "3: a sentence of 47 words",
    "| a | b |\n| --- | --- |\n| x | " + "cell " * 46 + "|": "3: a cell of 46 words",
    "Some words make this a sentence that goes beyond what is good to read in one breath. " * 2
    + "\n\n"
    + "Some words make this a sentence that goes beyond what is good to read in one breath. " * 2: (
        "a sentence has 17.0 words on average"
    ),
}


@pytest.mark.parametrize(("page", "fault"), BAD.items(), ids=list(BAD.values()))
def test_a_page_that_is_hard_to_read_is_found(page: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults(page)), list(faults(page))


def test_notes_of_code_that_are_hard_to_read_are_found() -> None:
    source = """
def f():
    '''Nobody calls it.

    key    nobody, in a table that is text too
    '''
    x = 1  # told once
    # 40 tokens
    # a second
    return x  # `nobody` in code is a name
"""
    assert [fault.split(" (")[0] for fault in note_faults(source)] == [
        "3: 'nobody'",
        "7: 'told'",
        "7: 'tokens a second'",
    ]
    long = '"""' + "word " * 39 + 'end."""'
    assert [fault.split(":")[1] for fault in note_faults(long)] == [" a sentence of 40 words"]
    assert list(note_sentences("It runs.\n\na    b\n\n├── c\n")) == ["It runs."]


def test_code_headings_and_links_do_not_count() -> None:
    page = "# Nobody\n\n```\nnobody\n```\n\n    nobody\n\n`nobody` and [this](nobody.md).\n"
    assert list(faults(page)) == []
    assert [b.text for b in blocks(page)] == ["code and this."]


def test_a_sentence_ends_where_a_reader_rests() -> None:
    assert sentences("It runs. Does it? Yes: at 0.5 s.") == [
        "It runs.",
        "Does it?",
        "Yes:",
        "at 0.5 s.",
    ]
    assert words("`x` costs 3 ms – or 1/2 = less") == 8
