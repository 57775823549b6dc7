"""Statistics of a comparison are scipy's and scikit-learn's, and a gate is judged by the worse end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from producers.quality.paired import Agreement, Gate, Paired, holm, refusals, table_of

LABELS = ("a", "b", "c")
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def agreement(pairs: list[tuple[int, int]]) -> Agreement:
    return Agreement(LABELS, table_of(LABELS, np.array([3 * a + b for a, b in pairs])))


@given(PAIRS)
def test_kappa_and_flips_are_those_of_the_rows(pairs: list[tuple[int, int]]) -> None:
    found = agreement(pairs)
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    assert found.flips.value == pytest.approx(np.mean(np.array(one) != np.array(two)))
    assert sum(flow.rows for flow in found.flows) == sum(a != b for a, b in pairs)
    if len({*one, *two}) > 1:
        assert found.kappa == pytest.approx(cohen_kappa_score(one, two), abs=1e-9)


def test_the_most_frequent_flow_comes_first() -> None:
    found = agreement([(0, 1), (0, 1), (2, 0), (1, 1)]).flows
    assert [(f.before, f.after, f.rows) for f in found] == [("a", "b", 2), ("c", "a", 1)]


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_p_value_is_the_exact_binomial_one(only_a: int, only_b: int) -> None:
    found = Paired(10, only_a, only_b, 10).p_value
    n = only_a + only_b
    expected = binomtest(min(only_a, only_b), n).pvalue if n else 1.0
    assert found == pytest.approx(expected, abs=1e-9)


def test_holm_is_the_published_procedure() -> None:
    assert holm({"x": 0.01, "y": 0.04, "z": 0.03}) == pytest.approx(
        {"x": 0.03, "z": 0.06, "y": 0.06}
    )
    assert holm({"x": 0.9, "y": 0.8}) == {"y": 1.0, "x": 1.0}
    assert holm({}) == {}


def test_the_difference_is_paired() -> None:
    """Two models of one accuracy that err on the same rows differ less than two that do not."""
    same, apart = Paired(880, 10, 10, 100), Paired(790, 100, 100, 10)
    assert same.delta.value == apart.delta.value == 0.0
    assert (same.delta.high - same.delta.low) < (apart.delta.high - apart.delta.low) / 2
    a, b = same.accuracies
    assert a.value == b.value == 0.89


def test_a_model_passes_against_itself_and_a_point_less_is_refused() -> None:
    """10,000 gold rows, an accuracy of 0.89, a gate of half a point; 100 resamples of each."""
    draw, gate = np.random.default_rng(1), Gate(min_accuracy_delta=-0.005)
    none = agreement([(0, 0)])
    refused = 0
    for _ in range(100):
        right = int(draw.binomial(10_000, 0.89))
        itself = Paired(right, 0, 0, 10_000 - right)
        assert refusals(gate, none, itself, {}) == []
        worse = Paired(*map(int, draw.multinomial(10_000, [0.85, 0.04, 0.03, 0.08])))
        refused += bool(refusals(gate, none, worse, {}))
    assert refused >= 90


def test_a_gate_says_each_reason() -> None:
    found = agreement([(0, 0)] * 95 + [(0, 1)] * 5)
    slices = {"shop": {"x": Paired(90, 0, 0, 10), "y": Paired(50, 40, 0, 10)}}
    gate = Gate(min_accuracy_delta=0.0, max_flips=0.06, slices={"shop": -0.01, "day": 0.0})
    told = refusals(gate, found, Paired(90, 5, 1, 4), slices)
    assert [line.split(":")[0] for line in told] == [
        "labels changed", "accuracy", "shop=y", "day",
    ]  # fmt: skip
    assert refusals(Gate(), found, None, {}) == []
    assert refusals(Gate(max_flips=0.2), found, None, {}) == []
    assert refusals(gate, found, None, slices)[1] == "accuracy: no row has a gold label"
