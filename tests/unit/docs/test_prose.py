"""Pages and help are plain English: usual words, short sentences, short paragraphs and cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main

from headrace.settings import Settings
from producers.cli import app as producer_app
from tests.unit.docs.prose import blocks, faults, found_words, sentences, words
from workers.cli import app as worker_app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_is_easy_to_read(page: Path) -> None:
    assert list(faults(page.read_text())) == []


def test_help_is_in_usual_words() -> None:
    texts = [field.description or "" for field in Settings.model_fields.values()]
    for app in (producer_app, worker_app):
        group: Any = typer.main.get_command(app)
        for command in group.commands.values():
            texts += [command.help or "", *(getattr(p, "help", "") or "" for p in command.params)]
    assert len(texts) > 200
    assert [(found_words(text), text) for text in texts if found_words(text)] == []


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
