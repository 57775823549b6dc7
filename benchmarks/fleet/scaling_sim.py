"""Nights, and how three scalers get through them: python -m benchmarks.fleet.scaling_sim [--plot FILE]

Drives the product's own pure function (`producers.scaling.decision.decide_workers`) against two rules that are in
use elsewhere: one pod for every so many waiting messages (an HPA on the queue's length, with its
usual five minutes of stabilization), and Celery's `--autoscale` (as many processes as there is
work, shrunk after 30 s). Most nights are made up; those under `nights/` were recorded from real
outputs (`benchmarks.fleet.record_night`) and are played slower and longer. Seeded: the same table each
time. No clock, no Redis, no Celery: what they would do is modelled, not run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.assumptions import CHUNK_S
from producers.scaling.decision import (
    Demand,
    Limits,
    ScalingDecision,
    WorkerCounts,
    decide_workers,
)

TICK_S = 10.0
TOKENS_PER_S = 1_000.0


@dataclass(frozen=True)
class Job:
    """Chunks of so many seconds of work for one worker; times from the night's start."""

    at_s: float
    chunks: int
    chunk_s: float = 30.0
    due_s: float | None = None
    spread: Sequence[float] = ()
    """How long each chunk is beside the mean, in their order; empty: 0.8 to 1.2, at random."""

    def seconds(self, chunk: int, rng: random.Random) -> float:
        """How long a worker takes for this chunk."""
        beside = self.spread[chunk % len(self.spread)] if self.spread else rng.uniform(0.8, 1.2)
        return self.chunk_s * beside


@dataclass(frozen=True)
class Night:
    name: str
    jobs: Sequence[Job]
    max_workers: int = 50
    startup_s: float = 60.0
    loss_per_hour: float = 0.0
    """Chance that a worker is taken away within an hour."""
    speed: float = 1.0
    """Of the workers, beside what was measured the night before."""
    hours: float = 8.0


NIGHTS = [
    Night("one corpus, due at 6", [Job(3600, 12_000, due_s=6 * 3600)], hours=9),
    Night("bursts, no deadline", [Job(3600 * h, 240) for h in range(8)]),
    Night(
        "big and small, both due",
        [Job(0, 6_000, due_s=7 * 3600), Job(4 * 3600, 60, due_s=4 * 3600 + 1200)],
    ),
    Night("slow start (10 min)", [Job(600, 4_000, due_s=4 * 3600)], startup_s=600, hours=6),
    Night("spot: 1 in 3 lost an hour", [Job(0, 8_000, due_s=6 * 3600)], loss_per_hour=0.33),
    Night("a fifth slower than measured", [Job(0, 8_000, due_s=6 * 3600)], speed=0.8),
    Night("1,000 workers", [Job(0, 480_000, due_s=6 * 3600)], max_workers=1_000, startup_s=120),
    Night("few chunks of ten minutes", [Job(600, 40, 600, due_s=5400)], hours=4),
    Night("hardly anything", [Job(1800 * n, 1, due_s=1800 * n + 1200) for n in range(16)]),
]

RECORDED = Path(__file__).parent / "nights"
REPEATS = 10
"""Chosen: a recorded night's chunks are played so often, each as long as a planned one."""


def recorded_nights(folder: Path = RECORDED) -> list[Night]:
    """The nights of the folder's files, by name."""
    return [night_from(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def night_from(told: dict[str, Any]) -> Night:
    """A recorded night with its clock stretched: a mean chunk of `CHUNK_S`, `REPEATS` times as many."""
    every = [s for job in told["jobs"] for s in job["chunk_s"]]
    stretch = CHUNK_S / (sum(every) / len(every))
    jobs = []
    for job in told["jobs"]:
        mean_s = sum(job["chunk_s"]) / len(job["chunk_s"])
        spread = tuple(s / mean_s for s in job["chunk_s"])
        due_s = None if job["due_s"] is None else job["due_s"] * stretch
        jobs.append(
            Job(job["at_s"] * stretch, REPEATS * len(spread), mean_s * stretch, due_s, spread)
        )
    hours = 2 + max(j.at_s + 3_600 for j in jobs) / 3_600
    return Night(f"recorded: {told['name']}", jobs, hours=math.ceil(hours))


@dataclass
class Worker:
    ready_s: float
    job: int = -1
    left_s: float = 0.0
    """Seconds of work that the current chunk still needs; 0: idle."""


@dataclass
class State:
    """The night at one moment."""

    night: Night
    rng: random.Random
    now_s: float = 0.0
    waiting: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    reworked: int = 0

    def live(self) -> list[Worker]:
        return [w for w in self.workers if w.ready_s <= self.now_s]

    @property
    def queued(self) -> int:
        return sum(self.waiting)

    def fleet(self) -> WorkerCounts:
        live = self.live()
        busy = sum(w.left_s > 0 for w in live)
        return WorkerCounts(busy, len(live) - busy)


Scaler = Callable[[State], int]


def headrace(night: Night) -> Scaler:
    """The product's function, with the speed of the night before."""
    limits = Limits(0, night.max_workers, night.startup_s, cooldown_s=120, window_s=3600)
    memory: list[ScalingDecision | None] = [None]
    measured = [TOKENS_PER_S]

    def scale(state: State) -> int:
        if sum(state.done) >= 10:  # a few chunks, and the speed of tonight is known
            measured[0] = TOKENS_PER_S * night.speed
        in_hand = [0] * len(night.jobs)
        left_s = [0.0] * len(night.jobs)
        for w in state.workers:
            if w.left_s > 0:
                in_hand[w.job] += 1
                left_s[w.job] += w.left_s
        demands = [
            Demand(
                str(n), "q", "m", state.waiting[n] + in_hand[n],
                (state.waiting[n] * job.chunk_s + left_s[n]) * TOKENS_PER_S, measured[0],
                deadline_s=job.due_s,
            )
            for n, job in enumerate(night.jobs)
        ]  # fmt: skip
        memory[0] = decide_workers(demands, state.fleet(), limits, state.now_s, memory[0])
        return memory[0].workers

    return scale


def queue_length(night: Night, messages_per_worker: int = 20) -> Scaler:
    """HPA: waiting messages over a target; down only to the most of the last five minutes."""
    history: list[tuple[float, int]] = []

    def scale(state: State) -> int:
        wanted = min(night.max_workers, math.ceil(state.queued / messages_per_worker))
        history.append((state.now_s, wanted))
        while history[0][0] < state.now_s - 300:
            history.pop(0)
        return max(n for _, n in history)

    return scale


def celery_autoscale(night: Night) -> Scaler:
    """As many processes as there is work, up at once, down after 30 s; never below one."""
    quiet_s = [0.0]

    def scale(state: State) -> int:
        work = state.queued + sum(w.left_s > 0 for w in state.workers)
        now = len(state.workers)
        if work >= now:
            quiet_s[0] = state.now_s
            return max(1, min(night.max_workers, work))
        return max(1, work) if state.now_s - quiet_s[0] >= 30 else now

    return scale


SCALERS = {"headrace": headrace, "queue length": queue_length, "celery autoscale": celery_autoscale}


@dataclass(frozen=True)
class Result:
    worker_hours: float
    misses: int
    late_min: float
    changes: int
    reworked: int
    last_end_h: float
    history: list[tuple[float, int]]


def simulate(night: Night, make: Callable[[Night], Scaler], seed: int = 1) -> Result:
    """One night from its start until all is done, and the fleet has gone or the hours are over."""
    jobs = night.jobs
    state = State(night, random.Random(seed))
    state.waiting, state.done = [0] * len(jobs), [0] * len(jobs)
    state.ended_s = [math.inf] * len(jobs)
    scale, picks_busy = make(night), make is queue_length
    arrived: set[int] = set()
    seconds, changes, before, history = 0.0, 0, 0, []
    while state.now_s < night.hours * 3600:
        for n, job in enumerate(jobs):
            if job.at_s <= state.now_s and n not in arrived:
                arrived.add(n)
                state.waiting[n] = job.chunks
        wanted = scale(state)
        changes += wanted != before
        before = wanted
        _resize(state, wanted, picks_busy)
        _lose(state)
        _work(state)
        seconds += len(state.workers) * TICK_S
        history.append((state.now_s / 3600, len(state.workers)))
        state.now_s += TICK_S
    late = [e - j.due_s for e, j in zip(state.ended_s, jobs, strict=True) if j.due_s is not None]
    return Result(
        seconds / 3600,
        sum(s > 0 for s in late),
        max(0.0, min(max(late, default=0.0), night.hours * 3600)) / 60,
        changes,
        state.reworked,
        max(state.ended_s) / 3600,
        history,
    )


def _resize(state: State, wanted: int, picks_busy: bool) -> None:
    """Start what is missing; let the starting and idle go first, where the scaler can choose."""
    for _ in range(wanted - len(state.workers)):
        state.workers.append(Worker(state.now_s + state.night.startup_s))
    if wanted < len(state.workers):
        order = list(state.workers)
        state.rng.shuffle(order)
        if not picks_busy:  # a Deployment takes any pod
            order.sort(key=lambda w: (w.left_s > 0, -w.ready_s))
        for worker in order[: len(state.workers) - wanted]:
            _drop(state, worker)


def _lose(state: State) -> None:
    chance = state.night.loss_per_hour * TICK_S / 3600
    if chance:
        for worker in [w for w in state.live() if state.rng.random() < chance]:
            _drop(state, worker)


def _drop(state: State, worker: Worker) -> None:
    state.workers.remove(worker)
    if worker.left_s > 0:
        state.waiting[worker.job] += 1
        state.reworked += 1


def _work(state: State) -> None:
    """One tick of every live worker; equals take turns, as the controller's window has it."""
    jobs = state.night.jobs
    flying = [0] * len(jobs)
    for w in state.workers:
        if w.left_s > 0:
            flying[w.job] += 1
    for worker in state.live():
        time_s = TICK_S
        while time_s > 0:
            if worker.left_s <= 0:
                able = [n for n in range(len(jobs)) if state.waiting[n]]
                if not able:
                    break
                worker.job = min(able, key=lambda n: (flying[n], n))
                job = jobs[worker.job]
                worker.left_s = job.seconds(job.chunks - state.waiting[worker.job], state.rng)
                state.waiting[worker.job] -= 1
                flying[worker.job] += 1
            spent = min(time_s, worker.left_s / state.night.speed)
            worker.left_s -= spent * state.night.speed
            time_s -= spent
            if worker.left_s <= 1e-9:
                worker.left_s = 0.0
                flying[worker.job] -= 1
                state.done[worker.job] += 1
                if state.done[worker.job] == jobs[worker.job].chunks:
                    state.ended_s[worker.job] = state.now_s + TICK_S - time_s


def table(results: dict[str, dict[str, Result]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| night | scaler | worker-hours | deadlines missed | latest by | changes | chunks reworked |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for night, found in results.items():
        for scaler, r in found.items():
            end = (
                "not done"
                if math.isinf(r.last_end_h)
                else f"{r.late_min:.0f} min"
                if r.misses
                else "–"
            )
            lines.append(
                f"| {night} | {scaler} | {r.worker_hours:,.1f} | {r.misses} | {end} | {r.changes} | {r.reworked} |"
            )
            night = ""
    return "\n".join(lines)


def plot(results: dict[str, dict[str, Result]], nights: Sequence[Night], path: str) -> None:
    """Workers over time, one small picture a night."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "headrace"
    import matplotlib.pyplot as plt

    rows = math.ceil(len(results) / 3)
    figure, axes = plt.subplots(rows, 3, figsize=(12, 2.7 * rows), layout="constrained")
    colours = {"headrace": "#0b6e4f", "queue length": "#d1495b", "celery autoscale": "#8d99ae"}
    for axis, (night, found) in zip(axes.flat, results.items(), strict=False):
        for scaler, result in reversed(found.items()):
            hours, workers = zip(*_steps(result.history), strict=True)
            axis.step(hours, workers, where="post", color=colours[scaler], lw=1.4, label=scaler)
        due = [j.due_s / 3600 for n in nights if n.name == night for j in n.jobs if j.due_s]
        for at in due[:3]:
            axis.axvline(at, color="#999", lw=0.8, ls=":")
        axis.set_title(night, fontsize=10)
        axis.set_ylim(bottom=0)
    for axis in list(axes.flat)[len(results) :]:
        axis.remove()
    for axis in axes[-1]:
        axis.set_xlabel("hours")
    for axis in axes[:, 0]:
        axis.set_ylabel("workers")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _steps(history: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Only where the number changes: a picture of a few kilobytes."""
    found = [history[0]]
    found += [b for a, b in itertools.pairwise(history) if a[1] != b[1]]
    return [*found, history[-1]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--plot", help="where to write the picture, e.g. scaling.svg")
    asked = arguments.parse_args()
    nights = [*NIGHTS, *recorded_nights()]
    results = {n.name: {s: simulate(n, make) for s, make in SCALERS.items()} for n in nights}
    print(table(results))
    if asked.plot:
        plot(results, nights, asked.plot)


if __name__ == "__main__":
    main()
