"""The initial token budget of a worker: set by the user, cached from an earlier start, or measured
now.

What was found is kept in a file of the user's cache for each model, precision, device, number of
threads and version of what computes, so that a second start costs nothing. Out-of-memory is
written there too: the next start begins at half of what failed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from headrace.process.atomic_file import write_atomically
from headrace.process.logs import get_logger
from headrace.tasks.contract import SupportsBudgetSearch, Task
from schemas.records.job import Job
from schemas.versions import versions
from workers.batching.budget_search import (
    LADDERS,
    Ladder,
    find_budget,
)
from workers.batching.packing import Budget
from workers.devices.device import (
    CPU,
    free_what_is_kept,
    kind_of,
)

log = get_logger(__name__)

# Rows of the batches that are timed. Chosen: the median of comments and of documentation.
ROW_TOKENS = 24
# What each batch costs beside the model. CPU: its rows' mark in Redis, which is waited for, and its
# spans; chosen, 1 ms with a Redis on the same machine, more over a network. GPU: its launch, while
# the tokenizer wants the same interpreter; with BERT-base on an H200, batches of 32,768 tokens (11
# ms) came to 0.85 of the device's own speed, 131,072 to all of it (measured).
BESIDE_S = {"cpu": 0.002, "cuda": 0.005}
# A device that was full may have been so because of a neighbour: what was learned is asked again
# after so long. Chosen.
KEPT_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a model on a device."""

    tokens: int | None = None
    """The budget that was found; None if none was searched for."""
    failed_at: int | None = None
    """Tokens of the smallest batch that ran out of memory, if any."""


class BudgetCache:
    """The budget of one loaded task on one device, and its cache file."""

    def __init__(
        self,
        task: Task,
        device: str,
        facts: Mapping[str, str],
        folder: Path,
        now_s: Callable[[], float] = time.time,
        ladder: Ladder | None = None,
    ) -> None:
        """`facts` are the job's; what the task itself adds is asked of it."""
        self._task = task
        self._device = device
        self._ladder = ladder or LADDERS[kind_of(device)]
        self._now_s = now_s
        self._path: Path | None = None
        self._known = Known()
        if isinstance(task, SupportsBudgetSearch):
            key = json.dumps({**facts, **task.budget_facts()}, sort_keys=True)
            self._key = key
            self._path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
            self._known = self._read(self._path)

    def start(self, by_hand: int | None) -> Budget:
        """The initial budget; searches for it the first time if none is set. Safe to call again."""
        if by_hand is not None:
            return Budget(by_hand, self._known.failed_at).set_by_hand(by_hand)
        if self._known.tokens is None:
            self._search()
        tokens = self._known.tokens or self._task.default_batch_tokens()
        return Budget(tokens, self._known.failed_at)

    def learn(self, budget: Budget) -> None:
        """Cache the smaller budget after out-of-memory. It is never below the smallest size of a
        search, so that one extreme row does not slow all later jobs.
        """
        failed = min(filter(None, (budget.failed_at, self._known.failed_at)), default=None)
        if failed is None:
            return
        tokens = max(self._ladder.rungs[0], failed // 2)
        known = min(tokens, self._known.tokens) if self._known.tokens is not None else None
        self._keep(Known(known, max(failed, 2 * self._ladder.rungs[0])))

    def _search(self) -> None:
        task = self._task
        if not isinstance(task, SupportsBudgetSearch):
            self._known = replace(self._known, tokens=task.default_batch_tokens())
            return
        failed = self._known.failed_at
        rungs = tuple(r for r in self._ladder.rungs if failed is None or r < failed)
        ladder = replace(self._ladder, rungs=rungs or self._ladder.rungs[:1])
        probe = _Probe(task, task, self._device)
        started = time.monotonic()
        found = find_budget(probe.seconds_of, probe.fits, ladder, task.default_batch_tokens())
        free_what_is_kept(self._device)
        if probe.failure is None:
            failed = min(filter(None, (found.failed_at, failed)), default=None)
            budget = Budget(found.tokens, failed).set_by_hand(found.tokens)
            self._keep(Known(budget.tokens, failed))
        else:  # a task that fails on a synthetic batch may work on real ones
            self._known = replace(self._known, tokens=task.default_batch_tokens())
        seconds = round(time.monotonic() - started, 3)
        log.info("budget.found", count=self._known.tokens, device=self._device, seconds=seconds,
                 error_type=probe.failure)  # fmt: skip

    def _read(self, path: Path) -> Known:
        """The content of the file; empty if it is damaged, too old or for another key."""
        try:
            found = json.loads(path.read_text())
            if found["key"] != self._key or self._now_s() - found["at_s"] > KEPT_S:
                return Known()
            numbers = [found[name] for name in ("tokens", "failed_at")]
            if all(n is None or (isinstance(n, int) and n >= 1) for n in numbers):
                return Known(*numbers)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return Known()

    def _keep(self, known: Known) -> None:
        """Store it in memory, and in the file if that is writable; other workers may write it too."""
        self._known = known
        if self._path is None:
            return
        text = json.dumps({"key": self._key, "at_s": self._now_s(), **asdict(known)})
        try:
            write_atomically(self._path, text)
        except OSError as error:  # a read-only home: the next start measures again
            log.warning("budget.not_kept", error_type=type(error).__name__)


class _Probe:
    """Runs synthetic batches and times them."""

    def __init__(self, task: Task, probed: SupportsBudgetSearch, device: str) -> None:
        self.failure: str | None = None
        """Class of an error other than out-of-memory, if any."""
        self._task = task
        self._probed = probed
        self._device = device
        # of a CPU what this process got: others on the machine must not decide
        self._clock = time.process_time if device == CPU else time.perf_counter
        self._beside_s = BESIDE_S[kind_of(device)]

    def seconds_of(self, tokens: int) -> float | None:
        return self._run(tokens, ROW_TOKENS)

    def fits(self, tokens: int) -> bool:
        """Whether a batch of the longest rows fits; not tried on a CPU, which fails too late."""
        return self._device == CPU or self._run(tokens, None) is not None

    def _run(self, tokens: int, row_tokens: int | None) -> float | None:
        if self.failure is not None:
            return None
        try:
            batch = self._probed.probe_batch(tokens, row_tokens)
            start = self._clock()
            self._task.forward(batch)
            return self._clock() - start + self._beside_s
        except Exception as error:
            if not self._task.is_out_of_memory(error):
                self.failure = type(error).__name__
            free_what_is_kept(self._device)  # what was half done; else the next size may use it
            return None


def facts_of_job(job: Job) -> dict[str, str]:
    """The properties of the job and of installed packages that the best budget depends on."""
    spec, installed = job.spec, versions()
    return {
        "task": spec.task,
        "params": json.dumps(spec.params, sort_keys=True),
        "model": spec.model.revision or spec.model.uri,
        "dtype": spec.dtype,
        **{name: installed.get(name, "") for name in ("headrace", "torch", "transformers")},
    }
