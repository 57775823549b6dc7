"""Chooses what goes to the queue next: a bounded window, by priority and fair share. Pure.

The window is small, so that a small urgent job does not wait behind a corpus that takes all night,
and so that the controller can read what is really in the queue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from headrace.assumptions import CHUNK_S, MODEL_LOAD_S
from schemas.records.message import MAX_RUN

# Chosen: enough messages that no worker waits a tick, see docs/about/decisions/0002-delivery.md.
MESSAGES_PER_WORKER = 4
MIN_MESSAGES = 64
# Chosen: time that a worker keeps one model before the next model's turn, in load times.
LOADS_PER_TURN = 10


@dataclass(frozen=True, slots=True)
class JobDemand:
    """What one job could send now."""

    job: str
    priority: int
    ready: tuple[int, ...]
    """Chunk numbers, in order; no more than fit into a window are needed."""
    in_flight: int
    """Chunks of the job that are queued or leased."""
    remaining: int
    """Chunks that have no part yet, including those in flight."""
    alone: frozenset[int] = frozenset()
    """Chunks whose worker crashed before: each in a message of its own, to spare its neighbours."""
    model: str = ""
    """Key of the model that a worker must have loaded for it."""
    load_s: float = MODEL_LOAD_S
    chunk_s: float = CHUNK_S
    """Seconds per chunk of one worker."""


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """One message: neighbouring chunks of one job."""

    job: str
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """The model whose jobs are sent while equal jobs have different ones, and for how many messages."""

    model: str
    messages: int
    past: tuple[str, ...] = ()
    """Models that had a turn, the latest last."""


def window_size(workers: int) -> int:
    """How many messages may be in a queue."""
    return max(MIN_MESSAGES, MESSAGES_PER_WORKER * workers)


def run_length(unsent: int, workers: int) -> int:
    """Chunks per message, 1 to 8: enough to overlap, few enough that all workers share the end.

    It is a quarter of each worker's share of what is not sent yet. So messages grow shorter towards
    the end, and no worker is left with a long one.

    Source: guided self-scheduling, Polychronopoulos and Kuck 1987.
    """
    return max(1, min(MAX_RUN, unsent // (4 * max(1, workers))))


def preempted(demands: Sequence[JobDemand]) -> frozenset[str]:
    """Jobs whose waiting messages are withdrawn for a higher priority or an equal with none yet.

    The messages in the queue are bounded in number, but each may be eight chunks of half a minute:
    an urgent job must not wait for them.
    """
    comers = [c for c in demands if c.ready]
    return frozenset(
        old.job
        for old in demands
        for new in comers
        if new.priority > old.priority
        or (new.priority == old.priority and new.job != old.job and not new.in_flight)
    )


def yielding(own: Sequence[JobDemand], others: Sequence[JobDemand]) -> frozenset[str]:
    """Own jobs that send nothing until the other controllers' jobs that go first have sent.

    The queue is a list: what is sent now would be first. Two jobs that both have nothing in flight
    do not wait for each other.
    """
    comers = [c for c in others if c.ready]
    return frozenset(
        old.job
        for old in own
        for new in comers
        if new.priority > old.priority
        or (new.priority == old.priority and not new.in_flight and old.in_flight)
    )


def select_runs(
    demands: Sequence[JobDemand], messages: int, workers: int, turn: ModelTurn | None = None
) -> tuple[list[ChunkRun], ModelTurn | None]:
    """At most that many messages, highest priority first, and the turn to pass in next time.

    Equal jobs take turns, fewest in flight first. If they have different models, a turn has enough
    messages that the workers do not spend their time loading, see `turn_of`.
    """
    round_ = _Round(
        ready={c.job: list(c.ready) for c in demands},
        in_flight={c.job: c.in_flight for c in demands},
        unsent={c.job: c.remaining - c.in_flight for c in demands},
    )
    runs: list[ChunkRun] = []
    turn = turn and _interrupted(turn, demands)
    while len(runs) < messages:
        able = [c for c in demands if round_.ready[c.job]]
        if not able:
            break
        top = max(c.priority for c in able)
        equals = [c for c in able if c.priority == top]
        turn = _turn_now(turn, equals, round_, workers)
        own = [c for c in equals if c.model == turn.model]
        runs.append(round_.take(min(own, key=lambda c: (round_.in_flight[c.job], c.job)), workers))
        turn = replace(turn, messages=turn.messages - 1)
    return runs, turn


@dataclass(slots=True)
class _Round:
    """What each job has left to send while one round of messages is chosen, by job key."""

    ready: dict[str, list[int]]
    in_flight: dict[str, int]
    unsent: dict[str, int]

    def take(self, demand: JobDemand, workers: int) -> ChunkRun:
        """The job's next message, removed from what it has left."""
        most = run_length(self.unsent[demand.job], workers)
        chunks = _neighbours(self.ready[demand.job], most, demand.alone)
        del self.ready[demand.job][: len(chunks)]
        self.unsent[demand.job] -= len(chunks)
        self.in_flight[demand.job] += len(chunks)
        return ChunkRun(demand.job, chunks)


def _turn_now(
    turn: ModelTurn | None, equals: Sequence[JobDemand], round_: _Round, workers: int
) -> ModelTurn:
    """The current turn, or the next model's if it is over."""
    if turn is not None and not _is_over(turn, equals):
        return turn
    lead = _next_model(equals, round_.in_flight, turn)
    length = run_length(round_.unsent[lead.job], workers)
    models = {c.model for c in equals}
    return turn_of(lead, length, workers, len(models), _past(turn, lead.model, models))


def turn_of(
    demand: JobDemand, run_chunks: int, workers: int, models: int, past: tuple[str, ...] = ()
) -> ModelTurn:
    """A turn for this demand's model.

    Each worker should keep a model for `LOADS_PER_TURN` times its load time. A turn is shorter if
    the window cannot hold one of each model: a job with nothing in flight overtakes its equals.
    """
    messages = LOADS_PER_TURN * demand.load_s / max(1e-9, run_chunks * demand.chunk_s)
    most = window_size(workers) // max(1, models)
    return ModelTurn(demand.model, max(1, min(most, math.ceil(workers * max(1.0, messages)))), past)


def _interrupted(turn: ModelTurn, demands: Sequence[JobDemand]) -> ModelTurn:
    """The turn, ended early if a job of another model has arrived and has nothing in flight."""
    able = [c for c in demands if c.ready]
    top = max((c.priority for c in able), default=0)
    comers = [c for c in able if not c.in_flight and c.model != turn.model and c.priority == top]
    return replace(turn, messages=0) if comers else turn


def _is_over(turn: ModelTurn, equals: Sequence[JobDemand]) -> bool:
    """Whether the next model's turn may start: this one is used up, or has no job left."""
    return turn.messages <= 0 or all(c.model != turn.model for c in equals)


def _next_model(
    equals: Sequence[JobDemand], flying: Mapping[str, int], turn: ModelTurn | None
) -> JobDemand:
    """A job with nothing in flight, else the job whose model was served least recently."""
    past = (*turn.past, turn.model) if turn is not None else ()
    had = {model: n for n, model in enumerate(past)}
    return min(
        equals,
        key=lambda c: (flying[c.job] > 0, had.get(c.model, -1), flying[c.job], c.job),
    )


def _past(turn: ModelTurn | None, model: str, models: AbstractSet[str]) -> tuple[str, ...]:
    """The models that had a turn before this one and still have work."""
    before = (*turn.past, turn.model) if turn is not None else ()
    return tuple(m for m in dict.fromkeys(reversed(before)) if m in models - {model})[::-1]


def _neighbours(ready: Sequence[int], most: int, alone: AbstractSet[int]) -> tuple[int, ...]:
    """The longest run of consecutive numbers from the start, at most that many."""
    end = 1
    if ready[0] not in alone:
        while end < min(most, len(ready)) and _joins(ready, end, alone):
            end += 1
    return tuple(ready[:end])


def _joins(ready: Sequence[int], at: int, alone: AbstractSet[int]) -> bool:
    return ready[at] == ready[at - 1] + 1 and ready[at] not in alone
