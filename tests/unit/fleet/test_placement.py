"""Which slot serves which queue: as a table, as properties, and over a made-up night."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.fleet.placement import (
    PATIENCE_S,
    QueueDemand,
    SlotState,
    assign_slots,
)


def seats(*told: str) -> list[SlotState]:
    """Slots as words: `a` idle for a minute, `a!` busy, `a?` just started, `-` empty, `a-` waiting."""
    found = []
    for n, word in enumerate(told):
        queue = word.rstrip("!?-") or None
        idle_s = 60.0 if queue == word else 0.0
        found.append(
            SlotState(f"s{n}", queue, word.endswith("-"), word.endswith("!"), idle_s, float(n))
        )
    return found


def ask(queue: str, share: int, chunks: int = 0, work_s: float = 1e6, **more: float) -> QueueDemand:
    return QueueDemand(queue, share, chunks, work_s, **{"change_s": 30.0, **more})  # type: ignore[arg-type]


TABLE = {
    # name: who is where, what is asked, who shall be where
    "nothing is wanted": (["-", "-"], [ask("a", 0)], "- -"),
    "empty slots are filled": (["-", "-"], [ask("a", 2, 9)], "a a"),
    "not for a share without work": (["-", "-"], [ask("a", 2, 0)], "- -"),
    "the minimum stays": (["a", "-"], [ask("a", 1, 0, least=1), ask("b", 2, 9)], "a b"),
    "two queues share the slots": (["-"] * 3, [ask("a", 3, 9), ask("b", 1, 9)], "a b a"),
    "too many leave, the idle first": (["a!", "a"], [ask("a", 1, 1)], "a -"),
    "and to where they are wanted": (["a!", "a"], [ask("a", 1, 1), ask("b", 1, 9)], "a b"),
    "a queue that is not served any more": (["c", "a!"], [ask("a", 2, 1)], "- a"),
    # one moves when its own queue is dry
    "the dry queue's worker moves": (["a", "b!"], [ask("a", 1, 0), ask("b", 2, 9)], "b b"),
    "not while it has work": (["a!", "b!"], [ask("a", 1, 1), ask("b", 2, 9)], "a b"),
    "not while its queue has work": (["a", "b!"], [ask("a", 1, 4), ask("b", 2, 9)], "a b"),
    "not before it waited": (["a?", "b!"], [ask("a", 1, 0), ask("b", 2, 9)], "a b"),
    "not for a trifle": (["a", "b!"], [ask("a", 1, 0), ask("b", 2, 9, work_s=100)], "a b"),
    "not for more than find a chunk": (["a", "b!"], [ask("a", 1, 0), ask("b", 2, 1)], "a b"),
    "not past what is wanted": (["a", "b!"], [ask("a", 1, 0), ask("b", 1, 9)], "a b"),
    "one at a time": (["a", "a", "b!"], [ask("a", 2, 0), ask("b", 3, 9)], "a b b"),
    "not beside an empty slot": (["a", "-"], [ask("a", 1, 0), ask("b", 1, 9)], "a b"),
    "a long load wants a longer wait": (
        ["a", "b!"], [ask("a", 1, 0), ask("b", 2, 9, change_s=90)], "a b",
    ),
    # a queue without workers
    "somebody for whoever has nobody": (["a!", "a!"], [ask("a", 2, 9), ask("b", 1, 9)], "a b"),
    "not from the only one": (["a!"], [ask("a", 1, 9), ask("b", 1, 9)], "a"),
    "not for a trifle at once": (
        ["a!", "a!"], [ask("a", 2, 9), ask("b", 1, 1, work_s=5)], "a a",
    ),
    "but after a while": (
        ["a!", "a!"],
        [ask("a", 2, 9), ask("b", 1, 1, work_s=5, unserved_s=PATIENCE_S)],
        "a b",
    ),
    "the idle one rather": (["a", "a!"], [ask("a", 2, 2), ask("b", 1, 9)], "b a"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str) -> None:
    told, asks, expected = TABLE[name]
    found = assign_slots(seats(*told), asks)
    assert " ".join(found[f"s{n}"] or "-" for n in range(len(told))) == expected


queues = st.sampled_from("abc")
places = st.lists(
    st.tuples(st.none() | queues, st.booleans(), st.booleans(), st.floats(0, 500)), max_size=8
).map(
    lambda found: [
        SlotState(f"s{n}", queue, empty, busy and not empty, 0.0 if busy or empty else idle)
        for n, (queue, empty, busy, idle) in enumerate(found)
    ]
)
asks = st.lists(
    st.builds(
        QueueDemand, queues, st.integers(0, 8), st.none() | st.integers(0, 50), st.floats(0, 1e5),
        st.floats(1, 200), st.floats(0, 2_000), st.integers(0, 2),
    ),
    max_size=3, unique_by=lambda a: a.queue,
)  # fmt: skip


@given(places, asks)
def test_no_queue_gets_more_than_its_share_and_no_slot_idles_for_want_of_it(
    found: list[SlotState], wanted: list[QueueDemand]
) -> None:
    there = assign_slots(found, wanted)
    count = Counter(q for q in there.values() if q is not None)
    assert set(there) == {p.slot for p in found}
    assert all(count[a.queue] <= a.share for a in wanted)
    if None in there.values():
        assert all(count[a.queue] >= a.useful_workers for a in wanted)


@given(places, asks)
def test_a_constant_question_ends_in_one_answer(
    found: list[SlotState], wanted: list[QueueDemand]
) -> None:
    moves = 0
    for _ in range(len(found) + 3):
        there = assign_slots(found, wanted)
        after = [
            p if p.queue == there[p.slot] else SlotState(p.slot, there[p.slot], is_empty=p.is_empty)
            for p in found
        ]
        if after == found:
            break
        moves += sum(p.queue is not None and p.queue != there[p.slot] for p in found)
        found = after
    else:
        pytest.fail("it never came to rest")
    assert moves <= 2 * len(found)


def test_two_slots_and_a_trickle_do_not_flap() -> None:
    """A corpus in `a`; in `b` a chunk of two seconds each minute, for four hours."""
    found = seats("-", "-")
    moves, b_chunks, b_since = 0, 0, 0.0
    for now in range(0, 4 * 3_600, 2):
        if now % 60 == 0:
            b_chunks += 1
        served = any(p.queue == "b" for p in found)
        b_since = b_since if b_chunks and not served else now
        wanted = [
            ask("a", 2, 500),
            ask("b", 1, b_chunks, 2.0 * b_chunks, change_s=15.0, unserved_s=now - b_since),
        ]
        there = assign_slots(found, wanted)
        moves += sum(p.queue not in (None, there[p.slot]) for p in found)
        found = [_lives(p, there[p.slot], b_chunks) for p in found]
        if any(p.queue == "b" for p in found):
            b_chunks = 0
    # there and back once in ten minutes, 30 s of 600 for one of two workers; not once a minute
    assert moves <= 2 * 4 * 3_600 / PATIENCE_S


def _lives(p: SlotState, queue: str | None, b_chunks: int) -> SlotState:
    """Two seconds later: who serves `a` is busy, who serves `b` only while it has a chunk."""
    if p.queue != queue:
        return SlotState(p.slot, queue)
    busy = queue == "a" or (queue == "b" and b_chunks > 0)
    return replace(p, is_empty=queue is None, is_busy=busy, idle_s=0.0 if busy else p.idle_s + 2)


def test_the_youngest_idle_worker_goes_first_and_who_has_not_started_before_it() -> None:
    found = seats("a!", "a", "a", "a-")
    gone = []
    for share in (3, 2, 1, 0):
        there = assign_slots(found, [ask("a", share, 0)])
        gone += [p.slot for p in found if p.queue and there[p.slot] is None]
        found = [replace(p, queue=there[p.slot]) for p in found]
    assert gone == ["s3", "s2", "s1", "s0"]
