"""Decides how many workers are wanted, and why. Pure: no clock, no Redis, no fleet.

The work of a queue is measured in worker-seconds: waiting tokens over the measured tokens per
second of one worker. A worker costs the same whether it works now or later. So the *fewest workers
that still meet every deadline*, started now, take the fewest worker-hours: each further worker pays
its start-up again. A running worker stays while it has a chunk: stopping it saves nothing. So the
number rises when it must, falls when workers are idle, and stays the same in between
(docs/operations/autoscaling.md, docs/about/decisions/0006-scaling.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.assumptions import CHUNK_S
from headrace.process.numbers import coarse_duration

# Chosen: headroom added when the number is raised. It is raised only when the work no longer fits
# with the small slack. So the two thresholds differ, and a constant input changes nothing.
HEADROOM = 1.2
SLACK = 1.05
# Chosen: a deadline is at risk if it can be met only when nothing at all goes wrong.
RISK = 1.1
# Chosen: how many workers may be started on that guess alone.
UNMEASURED_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Demand:
    """The remaining work of one job in a queue."""

    job: str
    queue: str
    model: str
    chunks: int
    """Chunks without a part, and so the most workers that can have work."""
    backlog_tokens: float
    tokens_per_s: float | None = None
    """Of one worker with this model; None: not measured yet."""
    priority: int = 0
    deadline_s: float | None = None
    """Seconds since the epoch."""

    @property
    def work_s(self) -> float:
        """Remaining worker-seconds; a guess if nothing was measured."""
        if self.tokens_per_s:
            return self.backlog_tokens / self.tokens_per_s
        return self.chunks * CHUNK_S


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """The live workers of a queue."""

    busy: int = 0
    idle: int = 0

    @property
    def live(self) -> int:
        return self.busy + self.idle


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured limits. Times in seconds; prices in the currency of the settings."""

    min_workers: int = 0
    max_workers: int = 1
    startup_s: float = 60.0
    """Seconds from the request for a worker to its first row."""
    cooldown_s: float = 120.0
    """Seconds that a worker must be idle before it is stopped."""
    window_s: float = 3600.0
    """Seconds in which a job without a deadline should be done."""
    price_per_hour: float | None = None
    """Price of one worker."""
    budget_per_hour: float | None = None

    @property
    def most(self) -> int:
        """Workers allowed by number and by budget."""
        if not self.price_per_hour or self.budget_per_hour is None:
            return max(self.min_workers, self.max_workers)
        affordable = int(self.budget_per_hour / self.price_per_hour)
        return max(self.min_workers, min(self.max_workers, affordable))


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The decision. Pass it as `before` the next time: it is the only state."""

    workers: int
    reason: str
    deadline_at_risk: bool = False
    raised_s: float | None = None
    """When the number last rose; the workers requested then are starting."""
    surplus_since_s: float | None = None
    """Since when there has been less work than workers."""


def decide_workers(
    demands: Sequence[Demand],
    fleet: WorkerCounts,
    limits: Limits,
    now_at: float,
    before: ScalingDecision | None = None,
) -> ScalingDecision:
    """Wanted workers for the demands of one queue. The same input gives the same answer again."""
    left = [d for d in demands if d.chunks > 0]
    most = limits.most
    last = before or ScalingDecision(fleet.live, "")
    current = min(most, max(limits.min_workers, last.workers))
    supply = _Supply(fleet.live, current, _on_the_way_s(last, limits, now_at), limits.startup_s)
    work_s = sum(d.work_s for d in left)
    chunks = sum(d.chunks for d in left)

    workers = _rise(left, supply, limits, chunks, now_at)
    raised_s = now_at if workers > current else last.raised_s
    at_risk = _deadline_needs(left, supply, now_at) > min(most, max(chunks, 1))
    workers, surplus_since_s = _fall(workers, max(chunks, fleet.busy), chunks, limits, last, now_at)
    wanted = ScalingDecision(workers, "", at_risk, raised_s, surplus_since_s)
    return replace(wanted, reason=_reason(wanted, left, work_s, limits, now_at))


def _rise(
    left: Sequence[Demand], supply: _Supply, limits: Limits, chunks: int, now_at: float
) -> int:
    """The number of workers, raised if the work does not fit even with little slack."""
    if _needed(left, supply, limits, now_at, SLACK) <= supply.asked:
        return supply.asked
    enough = _needed(left, supply, limits, now_at, HEADROOM)
    return max(supply.asked, int(min(enough, limits.most, chunks)))


def _fall(
    workers: int, used: int, chunks: int, limits: Limits, last: ScalingDecision, now_at: float
) -> tuple[int, float | None]:
    """The number, lowered to what is used after the cooldown; and since when it is too high."""
    if chunks >= workers or workers <= limits.min_workers:
        return workers, None
    since = now_at if last.surplus_since_s is None else last.surplus_since_s
    if now_at - since < limits.cooldown_s:
        return workers, since
    workers = max(limits.min_workers, min(workers, used))
    return workers, now_at if workers > max(chunks, limits.min_workers) else None


MOST_WORKERS = 1_000_000
"""Chosen: more than any fleet, so that a start-up time near zero still gives a number."""


@dataclass(frozen=True, slots=True)
class _Supply:
    """Running workers, requested workers, and how long those and new ones take to start."""

    live: int
    asked: int
    on_the_way_s: float
    startup_s: float

    def needed(self, work_s: float, time_s: float) -> float:
        """The fewest workers that do the work in time; infinity if no number can."""
        if work_s <= 0:
            return 0
        if time_s > 0 and work_s <= self.live * time_s:
            return _workers(work_s, time_s)
        work_s -= self.live * max(0.0, time_s)
        coming, coming_s = max(0, self.asked - self.live), time_s - self.on_the_way_s
        if coming and coming_s > 0:
            if work_s <= coming * coming_s:
                return self.live + _workers(work_s, coming_s)
            work_s -= coming * coming_s
        if time_s <= self.startup_s:
            return math.inf
        return max(self.live, self.asked) + _workers(work_s, time_s - self.startup_s)

    def worthwhile(self, work_s: float) -> int:
        """Workers that each get at least as much work as their start costs; for late jobs."""
        return max(1, self.live, int(min(MOST_WORKERS, work_s / max(1.0, self.startup_s))))


def _workers(work_s: float, time_s: float) -> int:
    return math.ceil(min(MOST_WORKERS, work_s / time_s))


def _on_the_way_s(last: ScalingDecision, limits: Limits, now_at: float) -> float:
    """Seconds until the workers requested last have started."""
    if last.raised_s is None:
        return limits.startup_s
    return min(limits.startup_s, max(0.0, last.raised_s + limits.startup_s - now_at))


def _needed(
    left: Sequence[Demand], supply: _Supply, limits: Limits, now_at: float, headroom: float
) -> float:
    """Workers that do everything in time; a guess alone adds only a few to what was measured."""
    needed = _needed_for(left, supply, limits, now_at, headroom)
    measured = [d for d in left if d.tokens_per_s]
    if len(measured) < len(left):
        known = _needed_for(measured, supply, limits, now_at, headroom)
        needed = min(needed, known + UNMEASURED_WORKERS)
    return needed


def _needed_for(
    left: Sequence[Demand], supply: _Supply, limits: Limits, now_at: float, headroom: float
) -> float:
    most = 0.0
    for demand in left:
        work_s = _ahead_s(demand, left) * headroom
        time_s = limits.window_s if demand.deadline_s is None else demand.deadline_s - now_at
        needed = supply.needed(work_s, time_s)
        most = max(most, supply.worthwhile(work_s) if math.isinf(needed) else needed)
    return most


def _deadline_needs(left: Sequence[Demand], supply: _Supply, now_at: float) -> float:
    """Workers that the deadlines need; only measured speeds and passed deadlines count."""
    if any(d.deadline_s is not None and d.deadline_s <= now_at for d in left):
        return math.inf
    measured = [d for d in left if d.tokens_per_s]
    return max(
        (
            supply.needed(_ahead_s(d, measured) * RISK, d.deadline_s - now_at)
            for d in measured
            if d.deadline_s is not None
        ),
        default=0.0,
    )


def _ahead_s(demand: Demand, left: Sequence[Demand]) -> float:
    """Work that is done before this demand: higher priorities, and the shares of equal ones."""
    higher = sum(d.work_s for d in left if d.priority > demand.priority)
    equals = (d for d in left if d.priority == demand.priority)
    return higher + sum(min(d.work_s, demand.work_s) for d in equals)


# -- in words


def _reason(
    wanted: ScalingDecision, left: Sequence[Demand], work_s: float, limits: Limits, now_at: float
) -> str:
    if not left:
        if wanted.surplus_since_s is None:
            return "no work" + (" and the minimum stays" if wanted.workers else "")
        idle_s = now_at - wanted.surplus_since_s
        return f"no work for {idle_s:.0f} s of a cooldown of {limits.cooldown_s:.0f} s"
    words = [f"{coarse_duration(work_s)} of work for one worker"]
    deadlines = [d.deadline_s for d in left if d.deadline_s is not None]
    if deadlines:
        words.append(_deadline(min(deadlines) - now_at, wanted.deadline_at_risk))
    else:
        words.append(f"no deadline, to be done in {coarse_duration(limits.window_s)}")
    if any(not d.tokens_per_s for d in left):
        words.append("speed not measured yet")
    if wanted.workers >= limits.most:
        words.append(f"{limits.most} is the limit")
    if limits.price_per_hour:
        words.append(f"about {work_s / 3600 * limits.price_per_hour:.2f} to pay")
    return ", ".join(words)


def _deadline(time_s: float, at_risk: bool) -> str:
    if time_s <= 0:
        return f"deadline passed {coarse_duration(-time_s)} ago"
    return f"deadline in {coarse_duration(time_s)}" + (" cannot be met safely" if at_risk else "")


# -- several hosts


@dataclass(frozen=True, slots=True)
class Host:
    """A host that polls: how many workers it can run, and how many it has."""

    name: str
    slots: int
    running: int = 0


def share_out(workers: int, hosts: Sequence[Host]) -> dict[str, int]:
    """Workers per host: running ones stay where they are, new ones fill the fullest host first."""
    order = sorted(hosts, key=lambda h: (-h.running, h.name))
    shares = dict.fromkeys((h.name for h in order), 0)
    for limit in ("running", "slots"):
        for host in order:
            take = min(workers, min(getattr(host, limit), host.slots) - shares[host.name])
            shares[host.name] += max(0, take)
            workers -= max(0, take)
    return shares
