"""What the page says of single rows: ids of errors, examples with texts, agreement, the night before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.settings import Settings
from headrace.storage.local import LocalStore
from producers.report import build_report
from producers.report.facts import read_facts
from producers.report.from_parts import Agreement, agreements, sample_rows
from producers.report.night_before import read_night
from producers.report.page import render
from schemas.errors import JobNotFound
from schemas.names import output_layout
from tests.unit.fake_output import write_fake_output

SETTINGS = Settings()
SCRIPTS = ["正面", "отрицательный", "إيجابي", "חיובי", "सकारात्मक", "부정적", "เชิงบวก", "😀 happy"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    folder = tmp_path_factory.mktemp("out")
    return write_fake_output(folder, chunks=4, rows=100, error_share=0.2)


def test_the_id_of_every_error_row_can_be_found_on_the_page(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    ids = [i for kind in facts.failed_ids.by_type.values() for i in kind]
    assert len(ids) == facts.failed_ids.of == facts.manifest.totals.errors > 50
    page = render(facts)
    shown = page[page.index("Ids of all") :]
    assert all(f"{i}, " in shown or f"{i}</span>" in shown for i in ids)


def test_a_page_of_very_many_errors_says_how_many_ids_it_shows(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.report.shown_rows.MOST_IDS", 7)
    facts = read_facts(store, 0)
    assert f"The first 7 of {facts.manifest.totals.errors} ids" in render(facts)


def test_examples_with_texts_are_there_only_when_asked_for(store: LocalStore) -> None:
    assert "Examples" not in render(read_facts(store, 0))
    facts = read_facts(store, 0, lambda chunk, column, row: f"text {chunk}-{row} <b>")
    assert 4 <= len(facts.shown) <= 12
    page = render(facts)
    assert "&lt;b&gt;" in page
    for row in facts.shown:
        chunk, at = divmod(int(row.id), 100)
        assert row.text == f"text {chunk}-{at} <b>"
        assert row.label in ("positive", "negative", "neutral")


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        (["good", "bad", None], [Agreement("gold", 1, 2)]),
        (["good", "other", "bad"], []),  # not a column of the model's labels
        ([5, 1, 2], []),
        ([None, None, None], []),
    ],
)
def test_a_carried_column_of_labels_is_compared(gold: list[object], found: list[Agreement]) -> None:
    table = pa.table({"gold": gold, "predicted_label": ["good", "good", None]})
    labels = frozenset({"good", "bad"})
    assert list(agreements([table], "predicted_label", ["gold"], labels)) == found


def test_agreement_is_on_the_page_with_its_interval(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    sample = replace(facts.sample, agreements=(Agreement("gold", 90, 100),))
    page = render(replace(facts, sample=sample))
    assert "90.0 % of 100 rows have the same as" in page
    assert "82.6 % to 94.5 %" in page


@pytest.mark.parametrize("choices", [None, '["a","b"]'])
def test_answers_that_have_not_their_form_are_counted(choices: str | None) -> None:
    """A carried column of that name is none of the answers."""
    part = pa.table({"id": [0, 1, 2], "n_tokens": [3, 3, 3], "finish_reason": ["stop"] * 3,
                     "parse_error": ["cut after 9 tokens", None, None]})  # fmt: skip
    buffer = pa.BufferOutputStream()
    pq.write_table(part, buffer)
    store = SimpleNamespace(open=lambda name: pa.BufferReader(buffer.getvalue()))
    spec = SimpleNamespace(task="text-generation", params={"choices": choices})
    job = SimpleNamespace(
        spec=spec, carried=() if choices else (SimpleNamespace(name="parse_error"),)
    )
    found = sample_rows(store, job, [0])  # type: ignore[arg-type]
    assert found.unparsed == (1 if choices else 0)


def test_answers_without_their_form_are_on_the_page(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    page = render(replace(facts, sample=replace(facts.sample, unparsed=1)))
    assert "1 row (" in page
    assert "has a <code>parse_error</code>" in page
    assert "parse_error" not in render(facts)


def test_the_night_before_is_beside_this_one(store: LocalStore, tmp_path: Path) -> None:
    before = write_fake_output(tmp_path, chunks=2, rows=50, seed=7)
    page = build_report(store, SETTINGS, against=before.uri)
    assert f"Beside {before.uri}" in page
    assert (
        '<th scope="row" dir="auto">rows</th><td class="n">400</td><td class="n">100</td>' in page
    )
    assert "label positive" in page
    assert "Beside" not in build_report(store, SETTINGS)
    assert read_night(before).labels.total() > 90


def test_a_night_that_has_no_job_is_an_error_only_where_it_was_named(
    store: LocalStore, tmp_path: Path
) -> None:
    with pytest.raises(JobNotFound):
        build_report(store, SETTINGS, against=str(tmp_path / "none"))
    facts = read_facts(store, 0)
    options = facts.job.options.model_copy(update={"reuse_output": str(tmp_path / "gone")})
    job = facts.job.model_copy(update={"options": options})
    store.replace(output_layout.JOB, job.model_dump_json().encode())
    try:
        assert "Beside" not in build_report(store, SETTINGS)
    finally:
        store.replace(output_layout.JOB, facts.job.model_dump_json().encode())


@pytest.mark.filterwarnings("error")
def test_labels_of_any_script_are_drawn_without_a_complaint(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    labels = Counter({name: 10 - i for i, name in enumerate(SCRIPTS)})
    page = render(replace(facts, sample=replace(facts.sample, labels=labels)))
    assert all(f">{name}</text>" in page for name in SCRIPTS)
    assert "\u2068إيجابي\u2069 15.4 %" in page
