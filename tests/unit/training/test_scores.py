"""Scores against scikit-learn, and the temperature that makes confidence true."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from workers.training.scores import calibration_error, fit_temperature, score

LABELS = ("a", "b", "c")


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def test_single_labels_are_scored_as_scikit_learn_does(chance: np.random.Generator) -> None:
    logits, targets = chance.normal(size=(200, 3)), chance.integers(0, 3, 200)
    found = score("single_label", logits, targets, LABELS)
    predicted = logits.argmax(-1)
    assert found.numbers["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predicted))
    assert found.numbers["macro_f1"] == pytest.approx(
        metrics.f1_score(targets, predicted, average="macro"), abs=1e-9
    )
    odds = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert found.numbers["loss"] == pytest.approx(metrics.log_loss(targets, odds), abs=1e-9)
    precision, recall, f1, rows = metrics.precision_recall_fscore_support(targets, predicted)
    for i, one in enumerate(found.classes):
        assert (one.label, one.rows) == (LABELS[i], rows[i])
        assert (one.precision, one.recall, one.f1) == pytest.approx(
            (precision[i], recall[i], f1[i])
        )


def test_several_labels_are_scored_as_scikit_learn_does(chance: np.random.Generator) -> None:
    logits, targets = chance.normal(size=(100, 3)), chance.integers(0, 2, (100, 3))
    found = score("multi_label", logits, targets, LABELS).numbers
    predicted = (logits > 0).astype(int)
    for name in ("macro", "micro"):
        assert found[f"{name}_f1"] == pytest.approx(
            metrics.f1_score(targets, predicted, average=name), abs=1e-9
        )
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predicted))


def test_numbers_are_scored_as_scikit_learn_does(chance: np.random.Generator) -> None:
    targets = chance.normal(size=50)
    logits = targets + 0.3 * chance.normal(size=50)
    found = score("regression", logits[:, None], targets, ("stars",)).numbers
    assert found["r2"] == pytest.approx(metrics.r2_score(targets, logits), abs=1e-9)
    assert found["mean_absolute_error"] == pytest.approx(
        metrics.mean_absolute_error(targets, logits), abs=1e-9
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_and_makes_confidence_true(
    chance: np.random.Generator, temperature: float
) -> None:
    true = chance.normal(size=(20_000, 3)) * 2
    odds = np.exp(true) / np.exp(true).sum(-1, keepdims=True)
    targets = (odds.cumsum(-1) > chance.random((20_000, 1))).argmax(-1)
    logits = true * temperature
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)
    assert calibration_error(logits / fit_temperature(logits, targets), targets) < 0.02
