"""Numbers of an evaluation are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from producers.quality.classification import Calibration, Counts
from producers.quality.intervals import bootstrap, wilson

LABELS = ("anger", "joy", "none", "sorrow")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1)


def counted(pairs: list[tuple[str, str]]) -> Counts:
    counts = Counts()
    for gold, predicted in pairs:
        counts.add(gold, predicted)
    return counts


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(PAIRS)
def test_every_number_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    found = counted(pairs).evaluate()
    labels = list(found.labels)
    assert found.confusion.tolist() == (
        metrics.confusion_matrix(gold, predicted, labels=labels).tolist()
    )
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(gold, predicted), abs=1e-9)
    parts = metrics.precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1", "support")):
        mine = [getattr(scores, name) for scores in found.by_label]
        assert mine == pytest.approx(parts[place].tolist(), abs=1e-9)
    for average, mine in (("macro", found.macro_f1.value), ("weighted", found.weighted_f1)):
        theirs = metrics.f1_score(gold, predicted, average=average, zero_division=0)
        assert mine == pytest.approx(theirs, abs=1e-9)


def test_tables_of_parts_add_up_to_the_table_of_the_whole() -> None:
    pairs = [(LABELS[i % 4], LABELS[i % 3]) for i in range(100)]
    whole, parts = counted(pairs), counted(pairs[:40])
    for (gold, predicted), rows in counted(pairs[40:]).pairs.items():
        parts.add(gold, predicted, rows)
    assert parts.pairs == whole.pairs


def test_a_wilson_interval_is_the_published_one() -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion, 1998: 81 of 263."""
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert (wilson(0, 10).low, wilson(10, 10).high) == pytest.approx((0.0, 1.0))


def test_a_bootstrap_interval_holds_the_value_and_shrinks_with_rows() -> None:
    table = np.array([[80, 20], [10, 90]])
    few, many = (bootstrap(n * table, lambda t: float(np.trace(t) / t.sum())) for n in (1, 100))
    assert few.low < few.value == many.value < few.high
    assert (many.high - many.low) == pytest.approx((few.high - few.low) / 10, rel=0.15)
    wide = wilson(170, 200)
    assert (few.low, few.high) == pytest.approx((wide.low, wide.high), abs=0.01)


def test_calibration_is_the_mean_gap_of_score_and_accuracy() -> None:
    found = Calibration()
    found.add(np.array([0.9] * 10), np.array([True] * 6 + [False] * 4))
    found.add(np.array([0.5] * 10), np.array([True] * 5 + [False] * 5))
    assert found.error == pytest.approx(0.5 * 0.3 + 0.5 * 0.0)
    assert [(row["rows"], row["accuracy"]) for row in found.table()] == [(10, 0.5), (10, 0.6)]


def test_scores_at_the_ends_have_a_bin() -> None:
    found = Calibration()
    found.add(np.array([0.0, 1.0]), np.array([False, True]))
    assert found.error == 0.0
