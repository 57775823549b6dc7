"""How near answers in one precision are to those in another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headrace.tasks.contract import ComparableOutput
from workers.precision.agreement import compare

KINDS = ("labels", "independent", "values", "vectors")


def answers(kind: Any, lines: Any, quiet: int | None = None) -> ComparableOutput:
    return ComparableOutput(kind, np.asarray(lines, dtype=np.float32), quiet)


def test_labels_are_those_with_the_largest_score() -> None:
    exact = answers("labels", [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]])
    rounded = answers("labels", [[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.40, 0.60]])
    found = compare(exact, rounded)
    assert (found.measure, found.share, found.compared, found.differing) == ("labels", 0.75, 4, 1)
    assert found.mean_difference == pytest.approx((0.1 + 0.2 + 0.1 + 0.05) / 4)
    assert found.max_difference == pytest.approx(0.2)
    assert found.entities is found.lowest is None


def test_independent_labels_must_all_stay_on_their_side_of_a_half() -> None:
    exact = answers("independent", [[0.9, 0.4], [0.9, 0.4], [0.51, 0.1]])
    rounded = answers("independent", [[0.8, 0.45], [0.9, 0.55], [0.49, 0.1]])
    found = compare(exact, rounded)
    assert (found.share, found.differing) == (pytest.approx(1 / 3), 2)


def test_one_independent_label_can_change_too() -> None:
    assert compare(answers("independent", [[0.6]]), answers("independent", [[0.4]])).share == 0


def test_entities_are_counted_apart_from_the_many_tokens_without() -> None:
    quiet, person, place = [0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.1, 0.0, 0.9]
    exact = answers("labels", [quiet] * 97 + [person, person, place], quiet=0)
    rounded = answers("labels", [quiet] * 97 + [person, quiet, place], quiet=0)
    found = compare(exact, rounded)
    assert found.share == pytest.approx(0.99)
    assert found.entities == pytest.approx(2 / 3)
    nothing = answers("labels", [quiet] * 3, quiet=0)
    assert compare(nothing, nothing).entities == 1


def test_vectors_are_held_to_their_direction() -> None:
    found = compare(answers("vectors", [[1, 0], [0, 2]]), answers("vectors", [[3, 0], [2, 2]]))
    assert found.measure == "cosine"
    assert found.lowest == pytest.approx(0.5**0.5)
    assert found.share == pytest.approx((1 + 0.5**0.5) / 2)


def test_values_are_held_to_their_course() -> None:
    exact = answers("values", [[1.0, 5], [2.0, 3], [3.0, 9]])
    assert compare(exact, exact).share == pytest.approx(1)
    turned = answers("values", [[1.0, 9], [2.0, 3], [3.0, 5]])
    assert compare(exact, turned).share < 0.5, "the worst column counts"


def test_values_that_are_all_the_same_must_stay_so() -> None:
    exact, moved = answers("values", [[1.0]] * 3), answers("values", [[1.0], [2.0], [1.0]])
    assert compare(exact, exact).share == 1
    assert compare(exact, moved).share == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_number_agrees_with_nothing(kind: str) -> None:
    exact = answers(kind, [[0.2, 0.8], [0.9, 0.1], [0.1, 0.7]])
    spoilt = answers(kind, [[np.nan, np.nan], [np.inf, np.nan], [np.nan, 0.9]])
    found = compare(exact, spoilt)
    assert found.share < 0.5
    assert np.isfinite([found.share, found.mean_difference, found.max_difference]).all()


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        (answers("labels", [[0.1, 0.9]]), answers("vectors", [[0.1, 0.9]])),
        (answers("labels", [[0.1, 0.9]]), answers("labels", [[0.1, 0.9]] * 2)),
        (answers("labels", np.zeros((0, 2))), answers("labels", np.zeros((0, 2)))),
    ],
)
def test_what_does_not_belong_together_is_not_compared(
    exact: ComparableOutput, rounded: ComparableOutput
) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(exact, rounded)


lines = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(1, 5)), elements=st.floats(0, 1, width=32)
)


@given(lines, st.sampled_from(KINDS))
def test_answers_agree_with_themselves(numbers: np.ndarray, kind: str) -> None:
    found = compare(answers(kind, numbers), answers(kind, numbers.copy()))
    assert found.share == pytest.approx(1)
    assert (found.mean_difference, found.max_difference) == (0, 0)


@given(lines, st.randoms(use_true_random=False))
def test_the_share_is_that_of_the_labels_and_minds_no_order(
    numbers: np.ndarray, chance: Any
) -> None:
    other = numbers[::-1].copy()
    found = compare(answers("labels", numbers), answers("labels", other))
    assert found.differing is not None
    assert found.share == pytest.approx(1 - found.differing / found.compared)
    order = list(range(len(numbers)))
    chance.shuffle(order)
    again = compare(answers("labels", numbers[order]), answers("labels", other[order]))
    assert again.share == found.share
