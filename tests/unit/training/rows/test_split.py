"""The split: no text on both sides, whatever repeats."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.training.split import split_by_file, split_rows
from schemas.records.training import LEAKED, TRAIN, UNLABELLED, VALIDATION

ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 20).map(lambda i: b"%d" % i)),
        st.one_of(st.none(), st.sampled_from("ab")),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(ROWS, st.floats(0, 0.9), st.integers(0, 3))
def test_a_text_is_on_one_side_and_only_labelled_rows_on_any(
    rows: list[tuple[bytes | None, str | None]], share: float, seed: int
) -> None:
    hashes, labels = [r[0] for r in rows], [r[1] for r in rows]
    split = split_rows(hashes, labels, share, seed)
    sides: dict[bytes, set[str]] = {}
    for text, label, side in zip(hashes, labels, split.sides, strict=True):
        assert (side == UNLABELLED) == (text is None or label is None)
        if text is not None and label is not None:
            sides.setdefault(text, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    assert split.repeated == len(rows) - split.count(UNLABELLED) - len(sides)


def test_each_label_gives_its_share() -> None:
    hashes = [b"%d" % i for i in range(1_000)]
    labels = ["rare" if i % 20 == 0 else "common" for i in range(1_000)]
    split = split_rows(hashes, labels, 0.2, 0)
    held = [label for label, side in zip(labels, split.sides, strict=True) if side == VALIDATION]
    assert (held.count("rare"), held.count("common")) == (10, 190)
    assert split.sides == split_rows(hashes, labels, 0.2, 0).sides
    assert split.sides != split_rows(hashes, labels, 0.2, 1).sides


def test_a_label_with_one_text_is_trained_on() -> None:
    split = split_rows([b"1", b"2", b"3", b"4"], ["a", "b", "b", "b"], 0.4, 0)
    assert split.sides[0] == TRAIN


def test_a_text_of_the_validation_file_is_not_trained_on() -> None:
    hashes = [b"1", b"2", b"2", None, b"2", b"3"]
    split = split_by_file(hashes, ["a", "a", "b", "a", "a", None], 4)
    assert split.sides == [TRAIN, LEAKED, LEAKED, UNLABELLED, VALIDATION, UNLABELLED]
    assert (split.leaked, split.contradicted) == (2, 1)
