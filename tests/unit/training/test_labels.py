"""Labels of any type, and labels that are wrong."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from producers.training.labels import balanced, understand
from schemas.errors import ColumnError


def of(values: list[Any], kind: pa.DataType | None = None, **more: Any) -> Any:
    given = {"problem": None, "renamed": {}} | more
    return understand(pa.chunked_array([pa.array(values, kind)]), "label", **given)


@pytest.mark.parametrize(
    ("values", "names", "problem"),
    [
        (["b", "a", "b", None], ("a", "b"), "single_label"),
        ([10, 2, 2, 10, None], ("2", "10"), "single_label"),
        ([True, False, True], ("false", "true"), "single_label"),
        ([1.0, 0.0, None], ("0", "1"), "single_label"),
        ([0.5, 1.25, None], ("label",), "regression"),
        ([["x", "y"], [], None, ["y"]], ("x", "y"), "multi_label"),
        ([[2, 10], [2]], ("2", "10"), "multi_label"),
    ],
)
def test_the_type_of_a_label_says_what_is_learned(
    values: list[Any], names: tuple[str, ...], problem: str
) -> None:
    found = of(values)
    assert (found.names, found.problem) == (names, problem)
    assert len(found.values) == len(values)
    assert found.values.null_count == sum(v is None for v in values)


def test_labels_in_a_dictionary_are_their_values() -> None:
    column = pa.chunked_array([pa.array(["a", "b", "a"]).dictionary_encode()])
    assert understand(column, "label", None, {}).values.to_pylist() == ["a", "b", "a"]


def test_integers_can_be_numbers_to_predict() -> None:
    assert of([1, 2, 5], problem="regression").values.to_pylist() == [1.0, 2.0, 5.0]


def test_a_map_renames_labels() -> None:
    found = of([0, 1, 1], renamed={"0": "negative", "1": "positive"})
    assert found.values.to_pylist() == ["negative", "positive", "positive"]
    assert found.counts == {"negative": 1, "positive": 2}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([None, None], "no label"),
        (["a", "a"], "one label only"),
        ([f"id-{i}" for i in range(30)], "ids or texts"),
        (["good", "Good ", "bad", "good"], "--map 'Good =good'"),
        ([{"a": 1}], "labels are text"),
        ([b"a", b"b"], "labels are text"),
    ],
)
def test_a_column_that_holds_no_labels_is_refused(values: list[Any], why: str) -> None:
    with pytest.raises(ColumnError, match=why):
        of(values, pa.string() if values[0] is None else None)


@pytest.mark.parametrize("wrong", ["postive", "positve", "posiitve", "positivee", "pisitive"])
def test_a_rare_label_one_letter_off_is_pointed_out(wrong: str) -> None:
    found = of(["positive", "negative"] * 100 + [wrong])
    assert any(repr(wrong) in w and "'positive'" in w for w in found.warnings)


def test_a_rare_label_of_its_own_is_only_called_rare() -> None:
    found = of(["positive", "negative"] * 100 + ["mixed"])
    assert len(found.warnings) == 1
    assert "under 5 %" in found.warnings[0]
    assert "mixed 0.5%" in found.warnings[0]


def test_balanced_weights_make_each_label_count_the_same() -> None:
    counts = [90, 9, 1, 0]
    weights = balanced(counts)
    assert [pytest.approx(w * c, rel=1e-4) for w, c in zip(weights, counts, strict=True)] == [
        100 / 3, 100 / 3, 100 / 3, 0,
    ]  # fmt: skip
