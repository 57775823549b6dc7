"""What people read of a training: the model card and the section of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from producers.report.facts import read_facts
from producers.report.page import render
from producers.report.training import training_section
from tests.unit.fake_output import write_fake_output
from tests.unit.training.made_result import made_result
from workers.training.card import model_card


def test_the_card_says_where_the_model_is_from_and_what_it_is_not_for() -> None:
    card = model_card(made_result(), job="0" * 16, licence="apache-2.0", inputs=["a|b.parquet"])
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\n")
    for said in (
        "| model | /models/minilm |", "| revision | sha256:12 |", "| file 1 | a\\|b.parquet |",
        "| digest of the labelled rows | abababab", "| positive | 30 | 3 | 0.700 | 0.600 | 0.650 |",
        "| macro_f1 | 0.8000 |", "| torch | 2.13.0 |", "only 100 validation rows",
        "Label positive has 3.0% of the training rows (30); its F1 is 0.65.",
    ):  # fmt: skip
        assert said in card, said


def test_a_base_without_a_licence_is_said_to_have_none() -> None:
    card = model_card(made_result(), job="0" * 16, licence=None, inputs=[])
    assert "license:" not in card
    assert "not stated by the base" in card
    scratch = model_card(made_result(base=""), job="0" * 16, licence=None, inputs=[])
    assert "none: trained from scratch" in scratch


def test_the_report_shows_how_it_learned_and_every_label(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path)
    facts = replace(read_facts(store, 1_790_000_100.0), training=made_result())
    page = render(facts)
    assert "Learning curve" in page
    for said in ("0.8000", "macro-F1", "0.650"):
        assert said in page
    assert "positive has under 5 % of the training rows. --class-weights balanced may help." in page
    assert "A model was trained on" in page


def test_another_job_has_no_such_section(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path)
    facts = read_facts(store, 1_790_000_100.0)
    assert training_section(facts) is None
    assert 'id="training"' not in render(facts)
