"""A stream that is kept is read once, and gives the same rows as one that is read again."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from headrace.formats.streams import Streams


class Source:
    """Rows 0 … rows in pieces; counts how often it is begun and how many rows it gave."""

    def __init__(self, rows: int, piece: int) -> None:
        self.rows, self.piece = rows, piece
        self.begun = self.given = 0

    def __call__(self) -> Iterator[range]:
        self.begun += 1
        for low in range(0, self.rows, self.piece):
            piece = range(low, min(self.rows, low + self.piece))
            self.given += len(piece)
            yield piece


def streams() -> Streams[range]:
    return Streams(lambda piece, low, high: piece[low:high])


def rows(found: Iterator[range]) -> list[int]:
    return [row for piece in found for row in piece]


@given(
    st.integers(0, 60),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 70), st.integers(1, 30)), max_size=8),
)
def test_any_spans_in_any_order_are_read_exactly(
    total: int, piece: int, spans: list[tuple[int, int]]
) -> None:
    source, kept = Source(total, piece), streams()
    for skip, count in spans:
        expected = list(range(min(skip, total), min(skip + count, total)))
        assert rows(kept.read("k", source, skip, count)) == expected


def test_spans_one_after_another_read_the_source_once() -> None:
    source, kept = Source(1_000, 7), streams()
    for skip in range(0, 1_000, 100):
        rows(kept.read("k", source, skip, 100))
    assert (source.begun, source.given) == (1, 1_000)


def test_two_readers_that_take_turns_have_a_stream_each() -> None:
    source, kept = Source(1_000, 7), streams()
    running = kept.read("k", source, 0, 100)
    next(running)
    for skip in range(100, 1_000, 100):
        ahead = kept.read("k", source, skip, 100)
        next(ahead)
        rows(running)
        running = ahead
    rows(running)
    assert source.begun == 2


def test_a_reader_that_is_left_half_way_spoils_nothing() -> None:
    source, kept = Source(100, 10), streams()
    next(kept.read("k", source, 0, 50))
    assert rows(kept.read("k", source, 0, 50)) == list(range(50))


def test_streams_of_another_key_are_not_used() -> None:
    source, kept = Source(100, 10), streams()
    rows(kept.read("a", source, 0, 50))
    assert rows(kept.read("b", source, 50, 50)) == list(range(50, 100))
    assert source.begun == 2
