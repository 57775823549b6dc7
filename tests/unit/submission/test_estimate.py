"""A dry run says what a job would cost, and a doctor what would keep it from running."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from headrace.formats.opener import InputOpener
from headrace.process.numbers import rough_duration, size
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.open import open_store
from producers.inspection.doctor import examine
from producers.submission.estimate import (
    SampledTokens,
    count_tokens,
    estimate,
    summarise,
)
from producers.terminal.doctor import render_doctor
from producers.terminal.plan import render_plan
from producers.terminal.verification import render_verdict
from producers.verification.verify import verify
from tests.unit.models.model_folder import write_model
from tests.unit.small_job import NOW_S, fake_settings, prepare_small, submit, write_input


def shown(renderable: Any) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    console.file.close()
    return console.export_text()


def test_an_estimate_counts_tokens_in_a_sample_and_scales(tmp_path: Path) -> None:
    for i in range(20):
        write_input(tmp_path / f"in/{i:02d}.parquet", ["x" * 398, None] * 200)
    settings = fake_settings(max_length=60, chunk_rows=100)
    prepared = prepare_small([tmp_path / "in"], tmp_path / "out", settings)
    told = estimate(
        prepared,
        InputOpener(partial(open_store, settings=settings)),
        workers=2,
        price_per_hour=3.6,
        measured_tokens_per_s=1000.0,
    )
    assert (told.files, told.rows, told.chunks, told.chunk_rows) == (20, 8000, 80, 100)
    assert not (tmp_path / "out").exists()
    assert (told.tokens.median, told.tokens.most, told.tokens.exact) == (102, 102, False)
    assert told.tokens.truncated_share == 1.0
    assert told.tokens_total == 60 * 8000
    assert told.seconds == pytest.approx(240)
    assert told.cost == pytest.approx(0.48)
    assert json.loads(json.dumps(told.to_json()))["tokens"]["mean"] == pytest.approx(102)
    text = shown(render_plan(told))
    for words in ("8,000 rows", "80 of up to 100 rows", "4 min with 2 workers", "100.0%"):
        assert words in text


def test_a_tokenizer_of_the_model_counts_exactly(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = [b"a a a a", b"", b"\xff b"]
    # two of six tokens are unknown
    assert count_tokens(texts, tmp_path) == SampledTokens([4, 0, 2], True, 2 / 6)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert count_tokens(texts, tmp_path).exact is False
    assert count_tokens(texts, None).exact is False


@pytest.mark.parametrize(
    ("text", "warned"), [("good film", 0), ("guter film", 0), ("ein guter film", 1)]
)
def test_a_sample_of_mostly_unknown_tokens_is_warned_of(
    tmp_path: Path, text: str, warned: int
) -> None:
    model = write_model(tmp_path / "m")
    path = write_input(tmp_path / "a.parquet", [text] * 10)
    settings = load_settings(task="text-classification", model=str(model))
    told = estimate(
        prepare_small([path], tmp_path / "out", settings),
        InputOpener(partial(open_store, settings=settings)),
        workers=1,
    )
    assert len(told.warnings) == warned
    assert all("67% of the tokens in a sample" in words for words in told.warnings)
    assert (told.max_length, told.max_length_from) == (
        128,
        "max_position_embeddings in config.json",
    )


def test_lengths_are_summarised_in_bins() -> None:
    counts = summarise([1, 7, 8, 9, 100], True, max_length=10)
    assert [(b.low, b.high, b.rows) for b in counts.bins] == [
        (0, 8, 2), (8, 16, 2), (16, 32, 0), (32, 64, 0), (64, 128, 1),
    ]  # fmt: skip
    assert (counts.truncated_share, counts.mean_scored) == (0.2, 7.0)
    assert summarise([], True, 10).rows == 0


def tokens_of(tmp_path: Path, words: int, **options: Any) -> int:
    """Predicted for one row of a question answerer whose tokenizer is exact."""
    head = "BertForQuestionAnswering"
    shapes = {"qa_outputs.weight": (2, 10)}
    model = write_model(tmp_path / "m", head, shapes=shapes, max_position_embeddings=512)
    path = write_input(tmp_path / "a.parquet", ["good " * words])
    settings = load_settings(task="question-answering", model=str(model), **options)
    return estimate(
        prepare_small([path], tmp_path / "out", settings),
        InputOpener(partial(open_store, settings=settings)),
        workers=1,
    ).tokens_total


@pytest.mark.parametrize(
    ("words", "params", "max_length", "total"),
    [
        # a question of 40 letters is 10 tokens, and 3 are special; the model of a text has 2
        (52, {"stride": 10}, None, 50 + 13),
        # windows of 384, so room for 371: from 0, 361 and 722
        (1_002, {"stride": 10}, None, 1_000 + 2 * 10 + 3 * 13),
        (1_002, {"stride": 10}, 113, 1_000 + 10 * 10 + 11 * 13),
        (1_002, {"stride": 0}, 512, 1_000 + 3 * 13),
    ],
)
def test_the_question_is_counted_in_each_window(
    tmp_path: Path, words: int, params: dict[str, Any], max_length: int | None, total: int
) -> None:
    params = params | {"question": "a" * 40}
    assert tokens_of(tmp_path, words, max_length=max_length, **params) == total


def test_a_text_of_which_only_the_start_is_tokenized_counts_whole(tmp_path: Path) -> None:
    # "good " is a token; 20 kB are 4,000 of them
    options: dict[str, Any] = {"question": "a" * 40, "stride": 0, "max_length": 413}
    assert tokens_of(tmp_path, 40_000, **options) == pytest.approx(40_000 + 100 * 13, rel=0.001)


def test_an_empty_sample_is_shown_too(tmp_path: Path) -> None:
    path = write_input(tmp_path / "a.parquet", [None, None])
    settings = fake_settings()
    told = estimate(
        prepare_small([path], tmp_path / "out", settings),
        InputOpener(partial(open_store, settings=settings)),
        workers=1,
    )
    assert told.tokens_total == 0
    assert "2 rows" in shown(render_plan(told))


def test_figures_for_people() -> None:
    assert [size(n) for n in (12, 4_440_684, 3e12)] == ["12 bytes", "4.4 MB", "3.0 TB"]
    assert [rough_duration(s) for s in (12, 600, 7500)] == ["12 s", "10 min", "2 h 05 min"]


def test_a_verdict_is_shown_with_its_problems(tmp_path: Path) -> None:
    store, _ = submit([write_input(tmp_path / "a.parquet", ["x"])], tmp_path / "out")
    store.create("data/notes.txt", b"x")
    text = shown(render_verdict(verify(LocalStore(tmp_path / "out"), fake_settings(), now_s=NOW_S)))
    assert "wrong" in text
    assert "data/notes.txt: is not a part" in text


# -- the doctor


def test_a_doctor_says_what_is_there_and_hides_secrets(tmp_path: Path) -> None:
    settings = load_settings(on_finish="https://hook/?token=hush", registry=str(tmp_path / "reg"))
    report = examine(settings, str(tmp_path / "out"), query=lambda: "NVIDIA H200, 9.0")
    assert report.ok
    text = shown(render_doctor(report)) + json.dumps(report.to_json())
    assert "hush" not in text
    for words in ("NVIDIA H200", "pyarrow", "creates a name only once", "run` starts its own"):
        assert words in text
    assert {row.name for row in report.rows if row.section == "headrace"} == {
        "schemas", "headrace", "producers", "workers",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "served", "reason"),
    [
        ({"avx2"}, ["float32", "int8"], "bfloat16: not served: without AVX512_BF16 or AMX"),
        ({"avx2", "avx512f"}, ["float32"], "int8: not served: it needs VNNI"),
        ({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}, ["float32", "bfloat16", "int8"],
         "float16: not served: it is for GPUs"),
    ],
)  # fmt: skip
def test_a_doctor_says_which_number_formats_the_cpu_computes(
    flags: set[str], served: list[str], reason: str
) -> None:
    report = examine(load_settings(), query=lambda: None, flags=frozenset(flags))
    assert report.ok, "a CPU without a number format is no fault"
    rows = [r for r in report.to_json()["rows"] if r["section"] == "cpu" and r["name"] != "model"]
    assert [row["name"] for row in rows if row["state"] == "ok"] == served
    assert any(f"{row['name']}: {row['value']}".startswith(reason) for row in rows)
    assert "not served" in shown(render_doctor(report))


def test_a_broker_that_is_away_is_bad_and_its_password_is_masked() -> None:
    settings = load_settings(broker_url="redis://:hush@127.0.0.1:1/0")
    report = examine(settings, query=lambda: None)
    assert not report.ok
    assert "hush" not in json.dumps(report.to_json())
    assert any(row.section == "broker" and row.state == "bad" for row in report.rows)


def test_a_store_that_refuses_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = examine(load_settings(), str(tmp_path / "file/out"), query=lambda: None)
    assert [row.state for row in report.rows if row.section == "store"] == ["bad"]
