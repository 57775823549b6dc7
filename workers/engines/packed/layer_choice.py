"""Chooses how a kind of linear layer is computed on this CPU: timed at a model's first load, then
cached.

What wins on one CPU loses on another. GELU inside oneDNN's product is the fastest with AVX-512; on
Zen 3 (AVX2) the same product with GELU after it is 1.1 to 1.2 times as fast (measured, see the log
of experiments). So each kind of layer is timed for each CPU, number of threads and version of torch
and headrace, and again after 30 days: a machine's name may stand for another CPU by then. The first
worker of a host that writes a choice makes it for all: they share the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from headrace.process.atomic_file import write_atomically
from headrace.process.cpu import cpu_flags, cpu_name
from headrace.process.logs import get_logger
from schemas.versions import versions

log = get_logger(__name__)

Way = Literal["torch", "laid_out", "fused"]
"""torch's own product; oneDNN's layout, with a GELU after the product; with the GELU inside it."""

# A way must be this much faster than the default to replace it. Chosen.
MARGIN = 0.03
# The first call of each way warms up, and does not count. Of the others the fastest counts: work on
# other cores only makes calls slower. Medians of three chose oneDNN's layout on a busy Zen 3 for
# layers that torch's product computes 1.2 times as fast (measured).
ROUNDS = 5
# The most tokens of a timed product, and the most operations: MiniLM's larger layers get 1,024
# tokens, the smallest budget that the search tries. Chosen, so that a kind takes 0.2 s at most.
MOST_TOKENS = 2048
MOST_OPERATIONS = 1.25e9
KEPT_S = 30 * 86_400.0
"""Seconds that a choice holds. Chosen, as for the token budget."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a layer's speed depends on."""

    width_in: int
    width_out: int
    bias: bool
    dtype: str
    gelu: bool
    """Whether an exact GELU follows directly."""

    @property
    def default(self) -> Way:
        """The default way, without timing."""
        return "fused" if self.gelu else "laid_out"

    @property
    def tokens(self) -> int:
        """How many tokens it is timed with."""
        a_token = 2 * self.width_in * self.width_out
        return max(1, min(MOST_TOKENS, int(MOST_OPERATIONS / a_token)))


Calls = Mapping[Way, Callable[[], Any]]
Choose = Callable[[Kind, Callable[[], Calls]], Way]
"""The way for a kind of layer; the calls are only built if they have to be timed."""


def by_default(kind: Kind, calls: Callable[[], Calls]) -> Way:
    """A `Choose` that times nothing."""
    return kind.default


def fastest(seconds: Mapping[Way, float], default: Way) -> Way:
    """The fastest way, if it beats the default by the margin; else the default."""
    best = min(seconds, key=lambda way: seconds[way])
    return best if seconds[best] < (1 - MARGIN) * seconds[default] else default


def time_ways(calls: Calls, clock: Callable[[], float]) -> dict[Way, float]:
    """Seconds of the fastest call of each way, measured in turns."""
    rounds: dict[Way, list[float]] = {way: [] for way in calls}
    for _ in range(1 + ROUNDS):
        for way, call in calls.items():
            start = clock()
            call()
            rounds[way].append(clock() - start)
    return {way: min(times[1:]) for way, times in rounds.items()}


class LayerChoices:
    """The choices of this CPU and number of threads, and the files they are kept in."""

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, str],
        time_ways: Callable[[Calls], Mapping[Way, float]],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`facts`: what a choice depends on beside the kind of layer, see `for_this_cpu`."""
        self._folder = folder
        self._facts = dict(facts)
        self._time_ways = time_ways
        self._now_s = now_s
        self._known: dict[Kind, Way] = {}

    def __call__(self, kind: Kind, calls: Callable[[], Calls]) -> Way:
        """See `Choose`; times a kind that neither this process nor the folder knows."""
        if kind not in self._known:
            self._known[kind] = self._read(kind) or self._find(kind, calls)
        return self._known[kind]

    def _find(self, kind: Kind, calls: Callable[[], Calls]) -> Way:
        seconds = self._time_ways(calls())
        way = fastest(seconds, kind.default)
        path, key = self._path(kind), self._key(kind)
        text = json.dumps({"key": key, "at_s": self._now_s(), "way": way, "seconds": dict(seconds)})
        try:
            if _write_if_absent(path, text):
                return way
            if theirs := self._read(kind):  # a worker beside this one was first
                return theirs
            write_atomically(path, text)  # the existing file is damaged or too old
        except OSError as error:  # a read-only home: timed again at the next start
            log.warning("budget.not_kept", error_type=type(error).__name__)
        return way

    def _read(self, kind: Kind) -> Way | None:
        """The choice in the file; None if it is missing, damaged, too old or for another key."""
        try:
            found = json.loads(self._path(kind).read_text())
            fresh = self._now_s() - found["at_s"] <= KEPT_S
            if fresh and found["key"] == self._key(kind):
                return next((way for way in get_args(Way) if way == found["way"]), None)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _key(self, kind: Kind) -> str:
        return json.dumps({**self._facts, **asdict(kind)}, sort_keys=True)

    def _path(self, kind: Kind) -> Path:
        name = hashlib.sha256(self._key(kind).encode()).hexdigest()[:32]
        return self._folder / f"layer-{name}.json"


def for_this_cpu(folder: Path) -> LayerChoices:
    """Choices timed by processor time, so that other processes on the machine do not decide."""
    import torch

    threads = torch.get_num_threads()
    facts = {
        "cpu": cpu_name(),  # a virtual machine may call many CPUs by one name: see their flags
        "flags": " ".join(sorted(cpu_flags())),
        "threads": str(threads),
        "timed": f"fastest of {ROUNDS}",
        "torch": str(torch.__version__),
        "headrace": versions().get("headrace", ""),
    }
    # of several threads, what all of them took: they wait for each other by spinning
    clock = time.thread_time if threads == 1 else time.process_time
    return LayerChoices(folder, facts, lambda calls: time_ways(calls, clock))


def _write_if_absent(path: Path, text: str) -> bool:
    """Write the file atomically; False if one exists already, which is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as scratch:
            scratch.write(text)
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(name)
    return True
