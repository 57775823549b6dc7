"""The report: one page that is right, small, safe, and readable for everybody."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.output.plan_file import write_plan
from headrace.process.numbers import (
    compact_number,
    compact_plural,
    exact_duration,
    percent_of,
    short_size,
)
from headrace.settings import Settings
from headrace.storage.local import LocalStore
from producers.report import build_report
from producers.report.facts import read_facts
from producers.report.from_parts import ErrorClass, Example
from producers.report.from_traces import FailedAttempt, evenly
from producers.report.page import render, short_command
from producers.report.plot_canvas import canvas
from producers.report.plots_of_time import rows_over_time, spread
from schemas.errors import JobNotFound
from schemas.names import output_layout
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.manifest import Receipt
from tests.unit.fake_output import write_fake_output

SETTINGS = Settings()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    folder = tmp_path_factory.mktemp("out")
    return write_fake_output(folder, chunks=8, rows=200, workers=2, error_share=0.05)


@pytest.fixture(scope="module")
def page(store: LocalStore) -> str:
    return build_report(store, SETTINGS)


class Elements(HTMLParser):
    """Every element with its attributes, and what was left open."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def test_the_page_accounts_for_every_row(store: LocalStore, page: str) -> None:
    facts = read_facts(store, 0)
    assert facts.manifest.totals.rows == 1_600
    assert "Every row is accounted for" in page
    assert "✓ adds up" in page
    assert facts.job.id in page
    assert facts.job.command in page
    for error in facts.errors:
        assert error.error_type in page
        assert 0 < len(error.examples) <= 5
        assert all(f">{e.id}<" in page for e in error.examples)
    slowest = max(facts.receipts, key=lambda r: r.seconds)
    assert str(slowest.trace_id) in page
    assert "timeout_error" in page


def test_warnings_are_there_if_there_are_some(store: LocalStore, page: str) -> None:
    facts = read_facts(store, 0)
    assert ">Warnings<" not in page
    warned = facts.manifest.model_copy(update={"warnings": ("44 texts <repeat>",)})
    assert "<li>44 texts &lt;repeat&gt;</li>" in render(replace(facts, manifest=warned))


def test_all_plots_are_there(page: str) -> None:
    for name in (
        "throughput",
        "timeline",
        "waterfall",
        "latency",
        "labels",
        "scores",
        "lengths",
        "padding",
    ):
        assert f'aria-labelledby="{name}-title {name}-desc"' in page


def test_the_page_needs_no_network_and_no_script(page: str) -> None:
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "iframe", "img", "object")
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), target
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_the_page_is_well_formed_and_each_id_is_its_own(page: str) -> None:
    elements = Elements(page)
    assert not elements.open
    ids = Counter(a["id"] for _, a in elements.found if "id" in a)
    assert [i for i, n in ids.items() if n > 1] == []
    wanted = {
        str(a["href"])[1:] for _, a in elements.found if str(a.get("href", "")).startswith("#")
    }
    wanted |= {str(a["xlink:href"])[1:] for _, a in elements.found if "xlink:href" in a}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted <= set(ids)


def test_the_page_works_with_a_keyboard_and_a_screen_reader(page: str) -> None:
    for tag, attributes in Elements(page).found:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    assert '<html lang="en">' in page
    assert page.count("<h1") == 1
    assert "Skip to the report" in page


def _luminance(colour: str) -> float:
    """Source: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_and_dark(page: str) -> None:
    themes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", page, re.S)
    ]
    assert len(themes) == 2
    for theme in themes:
        for text in ("ink", "muted", "one", "two", "bad", "good", "warn"):
            for ground in ("card", "page"):
                light, dark = sorted((_luminance(theme[text]), _luminance(theme[ground])))[::-1]
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_no_placeholder_of_a_colour_is_left(page: str) -> None:
    assert not re.search(r"#0(\d)(?:0\1){2}", page)


def test_markup_in_ids_messages_and_labels_stays_text(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path, chunks=2, rows=50, error_share=0.2)
    facts = read_facts(store, 0)
    evil = "<script>alert(1)</script>"
    errors = tuple(
        replace(e, message=evil, examples=tuple(replace(x, id=evil) for x in e.examples))
        for e in facts.errors
    )
    sample = replace(facts.sample, labels=Counter({evil: 3, r"$\frac{ & <b>": 2}))
    page = render(replace(facts, errors=errors, sample=sample))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not Elements(page).open


def test_texts_are_there_only_when_they_are_asked_for(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.parquet"
    texts = [f"planted text {i}" for i in range(200)]
    pq.write_table(pa.table({"text": texts}), corpus, row_group_size=30)
    store = write_fake_output(
        tmp_path / "out", chunks=2, rows=50, error_share=0.2, corpus=str(corpus)
    )
    file = InputFile(str(corpus), corpus.stat().st_size, "e")
    chunks = [
        Chunk(0, (Piece(file, 0, 2, 0, 0, 50, 900),), 0),
        Chunk(1, (Piece(file, 1, 4, 20, 50, 50, 900),), 50),
    ]
    write_plan(tmp_path / "plan", chunks)
    store.create_from_file(output_layout.PLAN, tmp_path / "plan")
    assert "planted text" not in build_report(store, SETTINGS)
    page = build_report(store, SETTINGS, with_texts=True)
    example = read_facts(store, 0).errors[0].examples[0].id
    assert f"planted text {example}<" in page
    corpus.unlink()
    assert "planted text" not in build_report(store, SETTINGS, with_texts=True)


@pytest.mark.parametrize("task", ["token-classification", "feature-extraction"])
def test_other_tasks_have_a_report_too(tmp_path: Path, task: str) -> None:
    page = build_report(write_fake_output(tmp_path, chunks=2, rows=40, task=task), SETTINGS)
    assert ("labels-title" in page) is (task == "token-classification")
    assert "lengths-title" in page


def test_a_job_on_its_way_and_one_without_traces_or_receipts(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path, chunks=3, rows=40)
    store.delete(output_layout.MANIFEST)
    for prefix in (output_layout.TRACES, output_layout.RECEIPTS):
        for info in list(store.list(prefix)):
            store.delete(info.name)
    store.delete(output_layout.part(2))
    page = build_report(store, SETTINGS, now_s=1_790_000_100)
    assert "The job has not ended yet" in page
    assert ">40<" in page  # rows without a part


def test_a_job_that_has_done_nothing_yet_has_a_page(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path, chunks=1, rows=5)
    for info in list(store.list("")):
        if info.name != output_layout.JOB:
            store.delete(info.name)
    page = build_report(store, SETTINGS)
    for words in ("The job has not ended yet", "since the submission", ">As of<", "so far"):
        assert words in page
    for words in (">Ended<", "adds up", 'id="time"', 'id="chunks"', "Slowest chunks"):
        assert words not in page, "no section without content"


def test_a_failed_job_says_what_is_missing_and_shows_nothing_green(store: LocalStore) -> None:
    facts = read_facts(store, 1_790_000_100)
    totals = facts.manifest.totals.model_copy(update={"rows": 1_400, "ok": 1_330, "errors": 70})
    manifest = facts.manifest.model_copy(update={"state": "failed", "totals": totals})
    page = render(replace(facts, manifest=manifest))
    assert "✗ 200 rows missing" in page
    assert "adds up" not in page
    nothing = totals.model_copy(update={"rows": 0, "ok": 0, "errors": 0})
    empty = manifest.model_copy(update={"totals": nothing})
    page = render(replace(facts, manifest=empty, receipts=(), errors=()))
    assert "✗ 1,600 rows missing" in page
    assert "No row was scored." in page
    assert 'id="chunks"' not in page


def test_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        build_report(LocalStore(tmp_path), SETTINGS)


def test_the_page_of_ten_million_rows_is_small(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    rng = np.random.default_rng(0)
    receipts = tuple(
        facts.receipts[0].model_copy(
            update={
                "chunk": i,
                "rows": 2_000,
                "worker": f"host-{i % 40}/cuda:0",
                "seconds": 20 + float(rng.random()),
                "started_s": 1.79e9 + i // 40 * 22 + float(rng.random()),
            }
        )
        for i in range(5_000)
    )
    sample = replace(facts.sample, rows=10**7, tokens=rng.lognormal(3, 1, 200_000).round() + 1)
    failed = tuple(
        FailedAttempt(
            chunk=i, outcome="worker_lost", error_type="worker_lost", worker=f"host-{i % 40}/cuda:0",
            started_s=1.79e9 + 9 * i, seconds=8.0, trace_id=f"{i:032x}",
        )
        for i in range(300)
    )  # fmt: skip
    examples = tuple(Example("x" * 10_000, "what went wrong", None) for _ in range(5))
    errors = tuple(ErrorClass(f"class_{i}", 9, "what went wrong", examples) for i in range(64))
    grown = replace(facts, receipts=receipts, sample=sample, failed=failed, errors=errors)
    page = render(replace(grown, batch_s=rng.random(80_000)))
    assert len(page.encode()) < 2_000_000
    assert len(page.encode()) < 1_000_000


def test_a_job_without_a_model_shows_none(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    spec = facts.job.spec.model_copy(update={"task": "fake"})
    page = render(replace(facts, job=facts.job.model_copy(update={"spec": spec})))
    assert "scored by the task fake, which has no model" in page
    assert ">Model<" not in page
    assert "scored with /models/minilm-sst2" in render(facts)


def test_the_command_is_shown_without_the_folder_of_its_program() -> None:
    assert short_command("/opt/venv/bin/headrace run /in -o /out") == "headrace run /in -o /out"
    assert short_command("headrace run /in") == "headrace run /in"


def test_a_message_that_is_not_ours_is_said_to_be_held_back(store: LocalStore) -> None:
    facts = read_facts(store, 0)
    strange = ErrorClass("value_error", 3, "", (Example("id-1", ""),))
    assert "not shown: it may quote the row" in render(replace(facts, errors=(strange,)))


def test_a_histogram_counts_values_beyond_its_edges() -> None:
    with canvas() as it:
        it.histogram(np.array([0.1, 5, 15, 99]), np.array([1, 10, 20]))
        (steps,) = it.axes.patches
        assert steps.get_data().values.tolist() == [2, 2]  # type: ignore[attr-defined]


def test_rows_over_time_add_up() -> None:
    receipts = tuple(
        Receipt(
            chunk=i,
            rows=100,
            ok=100,
            errors=0,
            bytes=1,
            sha256="",
            attempt="",
            started_s=50 + i,
            seconds=3,
        )
        for i in range(10)
    )
    edges, rows = rows_over_time(receipts)
    assert rows.sum() == pytest.approx(1_000)
    assert (edges[0], edges[-1]) == (0, 12)


def test_amounts_are_spread_evenly() -> None:
    found = spread(np.array([0.0, 2.0]), np.array([4.0, 3.0]), np.array([8.0, 5.0]), np.arange(5.0))
    assert found.tolist() == [2, 2, 7, 2]


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(100), 3) == [0, 50, 99]
    assert evenly([1, 2], 3) == [1, 2]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (compact_number(999_999), "999,999"),
        (compact_number(12_345_678), "12.35 M"),
        (percent_of(1, 3), "33.3 %"),
        (percent_of(0, 3), "0 %"),
        (percent_of(1, 2000), "0.05 %"),
        (percent_of(0, 0), "0 %"),
        (exact_duration(0.42), "420 ms"),
        (exact_duration(12.34), "12.3 s"),
        (exact_duration(245), "4 min 05 s"),
        (exact_duration(7_980), "2 h 13 min"),
        (short_size(999), "999 B"),
        (short_size(12_345_678), "12.3 MB"),
        (compact_plural(1, "row"), "1 row"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected
