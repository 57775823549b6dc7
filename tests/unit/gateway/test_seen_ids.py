"""Ids that repeat are found by digests, and two that only look alike are told apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.gateway.batches.seen_ids import SeenIds


def repeated(ids: list[str], seen: SeenIds) -> list[int]:
    for line, id in enumerate(ids, 1):
        seen.add(id, line)
    return list(seen.repeated())


def expected(ids: list[str]) -> list[int]:
    return [line for line, id in enumerate(ids, 1) if id in ids[: line - 1]]


@given(st.lists(st.text("abc", max_size=2), max_size=40))
def test_each_line_with_the_id_of_an_earlier_one_is_found(ids: list[str]) -> None:
    assert repeated(ids, SeenIds()) == expected(ids)


@given(st.lists(st.sampled_from("abcdefg"), max_size=40))
def test_ids_of_one_half_digest_are_told_apart_by_the_other(ids: list[str]) -> None:
    def alike(id: bytes) -> bytes:
        return bytes([id[0] % 2]).ljust(8, b"\0") + id.ljust(8, b"\0")

    assert repeated(ids, SeenIds(alike)) == expected(ids)
