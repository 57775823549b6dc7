"""The state of a job's chunks, without a store, Redis or a clock."""

from __future__ import annotations

from producers.tracking.chunk_states import DONE, GRACE_S, NEW, PARKED, SENT, ChunkStates


def states(*, parts: tuple[int, ...] = (), parked: tuple[int, ...] = ()) -> ChunkStates:
    found = ChunkStates(6)
    found.reset(parts, parked)
    return found


def test_a_part_outranks_a_parked_record_and_what_the_plan_lacks_is_passed_over() -> None:
    found = states(parts=(1, 99), parked=(1, 2, 77))
    assert found.state.tolist() == [NEW, DONE, PARKED, NEW, NEW, NEW]
    assert found.counts == {"new": 4, "sent": 0, "done": 1, "parked": 1}


def test_a_sent_chunk_is_lost_after_the_grace_time_unless_it_is_on_its_way() -> None:
    found = states()
    found.sent((0, 1), now_at=1000.0)
    assert found.lost([0, 1], {0}, now_monotonic=10.0) == []
    assert found.lost([0, 1], {0}, now_monotonic=10.0 + GRACE_S) == [1]
    assert found.lost([0, 1], set(), now_monotonic=10.0 + GRACE_S) == []  # its grace begins now


def test_a_crashed_chunk_is_lost_at_once() -> None:
    found = states()
    found.sent((3,), now_at=1000.0)
    found.crashed(3)
    assert found.lost([3], set(), now_monotonic=0.5) == [3]


def test_a_chunk_that_waits_is_not_ready_before_its_time() -> None:
    found = states(parts=(0, 2))
    found.sent((1,), now_at=1000.0)
    found.retry(1, not_before_monotonic=50.0)
    assert found.ready(now_monotonic=49.0) == [3, 4, 5]
    assert found.ready(now_monotonic=50.0) == [1, 3, 4, 5]


def test_what_was_taken_back_is_ready_again_in_its_place() -> None:
    found = states()
    found.sent((0, 1, 2), now_at=1000.0)
    assert found.ready(0.0) == [3, 4, 5]
    found.done([2])
    found.taken_back((1, 2, 99))  # 2 has its part, 99 is not in the plan
    assert found.ready(0.0) == [1, 3, 4, 5]
    assert found.oldest_sent_at() == 1000.0  # chunk 0 is out still


def test_the_oldest_chunk_without_a_part_counts_from_its_first_sending() -> None:
    found = states()
    found.sent((0,), now_at=100.0)
    found.sent((1,), now_at=200.0)
    found.retry(0, 0.0)
    found.sent((0,), now_at=300.0)
    assert found.oldest_sent_at() == 100.0
    found.done([0])
    assert found.oldest_sent_at() == 200.0
    found.done([1])
    assert found.oldest_sent_at() is None


def test_a_leased_chunk_counts_as_sent_by_any_controller() -> None:
    found = states(parts=(0,))
    found.leased({0, 1, 99})
    assert found.chunks(SENT) == [1]


def test_a_listing_shows_what_is_gone_and_what_was_found() -> None:
    found = states(parts=(0, 1), parked=(2,))
    assert found.compare([1, 2, 3]) == ([0], [2, 3])
    assert found.chunks(DONE) == [1, 2, 3]
    assert found.ready(0.0) == [0, 4, 5]
    assert not found.is_settled
    assert found.compare(range(6)) == ([], [0, 4, 5])
    assert found.is_settled
