"""A precision is compared with float32 on the job's own rows, and refused where it is too far off."""

from __future__ import annotations

from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from headrace.formats.opener import InputOpener
from headrace.output.job_record import read_job
from headrace.process.cpu import number_formats
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.open import open_store
from headrace.tasks.contract import ComparableOutput, SupportsComparison
from headrace.tasks.model_digest import folder_digest
from headrace.tasks.registry import load_task
from producers.records.manifest import build_manifest
from producers.submission.create import create_job
from producers.submission.precision import (
    NotChecked,
    ask_engine,
    check,
    precision_verdict,
    question,
)
from producers.submission.repeat import repeated_settings
from producers.terminal.precision import render_precision
from schemas.errors import ConfigError, ExitCode, ModelError, PrecisionRefused
from schemas.records.precision import (
    Agreement,
    PrecisionCheck,
    PrecisionRequest,
    percent,
)
from tests.unit.small_job import NOW_S, fake_settings, prepare_small, write_input
from tests.unit.tiny_models import LABELS, TEXTS, TinyModels
from workers.precision.check import check as check_here

SETTINGS = load_settings(task="fake")
REGRESSION = {"num_labels": 1, "problem_type": "regression"}


def agreement(share: float = 0.995, **more: Any) -> Agreement:
    found: dict[str, Any] = {
        "dtype": "int8", "device": "cpu", "rows": 1_000, "measure": "labels", "share": share,
        "compared": 1_000, "differing": round(1_000 * (1 - share)), "mean_difference": 0.004,
        "max_difference": 0.05, "speed": 1.6, "seconds": 8.0,
    }  # fmt: skip
    return Agreement(**found | more)


def request(**more: Any) -> PrecisionRequest:
    asked: dict[str, Any] = {
        "task": "text-classification", "model_uri": "m", "model_revision": "r", "dtype": "int8",
        "texts": ("a", "b"),
    }  # fmt: skip
    return PrecisionRequest(**asked | more)


# -- the decision


def test_near_enough_says_nothing() -> None:
    assert precision_verdict(PrecisionCheck(floor=0.99, agreement=agreement(0.99)), "int8") is None


@pytest.mark.parametrize(
    ("checked", "why"),
    [
        (PrecisionCheck(floor=0.99, agreement=agreement(0.989)), r"98\.90 % \(989 of 1,000"),
        (PrecisionCheck(floor=0.999, agreement=agreement()), r"under the floor of 0\.999"),
        (PrecisionCheck(floor=0.99, why="no engine"), "not checked against float32: no engine"),
    ],
)
def test_too_far_off_and_unchecked_are_refused_unless_accepted(
    checked: PrecisionCheck, why: str
) -> None:
    with pytest.raises(PrecisionRefused, match=why) as caught:
        precision_verdict(checked, "int8")
    assert caught.value.exit_code is ExitCode.PRECISION
    assert "--accept-precision" in str(caught.value)
    warning = precision_verdict(checked.model_copy(update={"accepted": True}), "int8")
    assert warning is not None
    assert warning.endswith("accepted (--accept-precision)")


def test_entities_that_suffer_behind_a_good_share_are_warned_of() -> None:
    checked = PrecisionCheck(floor=0.99, agreement=agreement(0.998, entities=0.93))
    assert "93.0% of those that name an entity" in str(precision_verdict(checked, "int8"))


def test_nothing_short_of_everything_is_shown_as_everything() -> None:
    assert (percent(1.0), percent(0.99999), percent(0.9912)) == ("100 %", "99.99 %", "99.12 %")


@pytest.mark.parametrize(
    ("checked", "shown"),
    [
        (PrecisionCheck(floor=0.99, agreement=agreement()), ["99.50 % (995 of", "1.60 times", "not under"]),
        (PrecisionCheck(floor=0.99, agreement=agreement(0.9)), ["under the floor of 0.99: a job is refused"]),
        (
            PrecisionCheck(floor=0.99, agreement=agreement(0.9982, measure="cosine", lowest=0.97, differing=None)),
            ["0.9982 on average, 0.9700 at worst"],
        ),
        (PrecisionCheck(floor=0.99, why="no engine", accepted=True), ["no engine", "accepted"]),
        (PrecisionCheck(floor=0.99, agreement=agreement(entities=0.95)), ["95.00 %, where either sees one"]),
    ],
)  # fmt: skip
def test_a_person_sees_what_was_compared_and_the_verdict(
    checked: PrecisionCheck, shown: list[str]
) -> None:
    console = Console(width=200, file=StringIO())
    console.print(render_precision(checked, "int8"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(words in text for words in shown), text


# -- what is asked, and remembered


def test_the_question_holds_rows_from_all_over_the_corpus(tmp_path: Path) -> None:
    for day in range(4):
        write_input(tmp_path / f"in/{day}.parquet", [f"day {day} row {i}" for i in range(500)])
    settings = fake_settings(precision_rows=100, text_pair_column="id")
    prepared = prepare_small([tmp_path / "in"], tmp_path / "out", settings)
    asked = question(prepared, settings, InputOpener(partial(open_store, settings=settings)))
    assert len(asked.texts) == 100
    assert {text.split(" row ")[0] for text in asked.texts} == {f"day {day}" for day in range(4)}
    assert asked.pairs is not None
    assert all(
        t.split()[1] == p.split("-")[0] for t, p in zip(asked.texts, asked.pairs, strict=True)
    )
    assert (
        question(prepared, settings, InputOpener(partial(open_store, settings=settings))) == asked
    )


def test_an_answer_is_remembered_for_the_same_question_only(tmp_path: Path) -> None:
    asked: list[PrecisionRequest] = []

    def ask(one: PrecisionRequest) -> Agreement:
        asked.append(one)
        return agreement()

    for question_ in (request(), request(), request(texts=("a", "c")), request(dtype="bfloat16"),
                      request(model_revision="r2"), request(params={"multi_label": True})):  # fmt: skip
        assert check(question_, SETTINGS, tmp_path / "cache", ask).agreement == agreement()
    assert len(asked) == 5
    assert request().digest({"torch": "1"}) != request().digest({"torch": "2"})
    for file in (tmp_path / "cache").iterdir():
        file.write_text("cut sho")
    check(request(), SETTINGS, tmp_path / "cache", ask)
    assert len(asked) == 6, "a damaged answer is asked for again"


def test_a_check_that_failed_is_tried_again_the_next_time(tmp_path: Path) -> None:
    def away(_: PrecisionRequest) -> Agreement:
        raise NotChecked("no engine")

    found = check(request(), SETTINGS, tmp_path, away)
    assert (found.agreement, found.why, found.passed) == (None, "no engine", False)
    assert check(request(), SETTINGS, tmp_path, lambda _: agreement()).passed


def test_the_engine_is_asked_in_its_own_process_and_its_last_words_are_the_reason() -> None:
    on_cpu = load_settings(task="fake", device="cpu")
    with pytest.raises(NotChecked, match=r"^float16, which cpu does not serve"):
        ask_engine(request(dtype="float16"), on_cpu)


def test_the_finding_is_in_the_job_and_in_its_manifest(tmp_path: Path) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a", "b"])
    prepared = prepare_small([corpus], tmp_path / "out", fake_settings())
    checked = PrecisionCheck(floor=0.99, agreement=agreement(0.98), accepted=True)
    store = LocalStore(tmp_path / "out")
    create_job(store, prepared, now_s=NOW_S, precision=checked)
    job = read_job(store)
    assert job is not None
    assert job.precision == checked
    assert job.id == prepared.id, "it is no part of the job's identity"
    manifest = build_manifest(job, [], [], finished_s=NOW_S, versions={})
    assert (manifest.precision, manifest.dtype) == (checked, "float32")


# -- the engine's side


needs_int8 = pytest.mark.skipif(
    bool(number_formats()["int8"]), reason=f"int8 on this CPU: {number_formats()['int8']}"
)


def ask_here(task: str, path: str, **more: Any) -> Agreement:
    asked = request(
        task=task,
        model_uri=path,
        model_revision=folder_digest(Path(path)),
        **{"texts": TEXTS, **more},
    )
    return check_here(asked, SETTINGS, "cpu", 1)


@needs_int8
@pytest.mark.parametrize(
    ("task", "head", "config", "measure"),
    [
        ("text-classification", "SequenceClassification", {"num_labels": 3}, "labels"),
        ("text-classification", "SequenceClassification", REGRESSION, "correlation"),
        ("token-classification", "TokenClassification", {"id2label": LABELS}, "labels"),
        ("feature-extraction", "", {}, "cosine"),
    ],
)  # fmt: skip
def test_each_task_is_compared_by_what_its_readers_take(
    task: str, head: str, config: dict[str, Any], measure: str, tiny: TinyModels
) -> None:
    found = ask_here(task, tiny("bert", head, **config))
    assert (found.dtype, found.rows, found.measure) == ("int8", len(TEXTS), measure)
    assert 0.5 < found.share <= 1
    assert found.max_difference > 0, "int8 cannot be float32 to the last digit"
    assert found.speed > 0
    assert (found.entities is not None) == (task == "token-classification")
    assert (found.lowest is not None) == (measure == "cosine")


@needs_int8
def test_a_model_whose_labels_int8_moves_is_found_out(tiny: TinyModels) -> None:
    words = [t for t in " ".join(TEXTS[3:13]).split() if t.isascii()]
    texts = tuple(" ".join(words[i : i + 6]) for i in range(200))
    path = tiny("bert", "SequenceClassification", num_labels=60)
    found = ask_here("text-classification", path, texts=texts)
    assert found.differing
    assert found.share < 0.99, "60 labels of random weights lie close together"


@pytest.mark.parametrize(
    ("more", "error", "why"),
    [
        ({"dtype": "float32"}, ConfigError, "nothing to compare"),
        ({"texts": ()}, ConfigError, "nothing to compare"),
        ({"dtype": "float16"}, ModelError, "float16, which cpu does not serve"),
    ],
)
def test_what_cannot_be_compared_is_said(
    more: dict[str, Any], error: type[Exception], why: str, tiny: TinyModels
) -> None:
    with pytest.raises(error, match=why):
        ask_here("text-classification", tiny("bert", "SequenceClassification"), **more)


def test_a_task_that_gives_no_numbers_is_not_compared() -> None:
    assert not isinstance(load_task("fake"), SupportsComparison)
    with pytest.raises(ConfigError, match="fake does not say how"):
        check_here(request(task="fake"), SETTINGS, "cpu", 1, lambda device: ("int8",))


def test_tokens_that_stand_for_no_text_are_not_counted(tiny: TinyModels) -> None:
    from headrace.tasks.contract import LoadRequest

    task: Any = load_task("token-classification")
    task.load(
        LoadRequest(
            tiny("bert", "TokenClassification", id2label=LABELS), "cpu", "float32", None, {}
        )
    )
    batch = task.encode(["the film", "good"])
    found = task.answers(batch, task.forward(batch))
    assert isinstance(found, ComparableOutput)
    assert found.quiet == 0
    assert len(found.numbers) == int(batch.offsets[-1]) - 2 * 2 == 3
    assert np.allclose(found.numbers.sum(axis=1), 1, atol=1e-5)


@needs_int8
def test_pairs_are_compared_as_pairs(tiny: TinyModels) -> None:
    path, texts = tiny("bert", "SequenceClassification"), ("good film", "bad film")
    alone = ask_here("text-classification", path, texts=texts)
    pairs = ask_here("text-classification", path, texts=texts, pairs=("the weather", "is fine"))
    assert pairs.rows == 2
    assert pairs.mean_difference != alone.mean_difference


def test_error_rows_are_tried_again_under_the_floor_and_the_word_of_the_first_job(
    tmp_path: Path,
) -> None:
    prepared = prepare_small(
        [write_input(tmp_path / "in.parquet", ["a"])], tmp_path / "out", fake_settings()
    )
    store = LocalStore(tmp_path / "out")
    job, _ = create_job(store, prepared, now_s=NOW_S)
    assert (
        repeated_settings(job)["precision_floor"]
        is repeated_settings(job)["accept_precision"]
        is None
    )
    for accepted in (True, False):
        checked = PrecisionCheck(floor=0.9, agreement=agreement(), accepted=accepted)
        flags = repeated_settings(job.model_copy(update={"precision": checked}))
        assert (flags["precision_floor"], flags["accept_precision"]) == (0.9, accepted or None)
