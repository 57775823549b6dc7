"""Decides which prompts start together, and which run again after a failure. Pure.

waiting ─admit→ running ─finish→ answered
   ↑               │ out of memory: all run again, half as many at once
   │               └ another error: each half runs again by itself, until one prompt is left
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import groupby

from workers.engines.generating.base import Prompt


class Schedule:
    """The prompts of one call of the engine, until each has an answer."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        budget_tokens: int,
        most_rows: int,
        costs: Callable[[Prompt], int],
        alike: Callable[[Prompt], Hashable],
        joins: bool,
    ) -> None:
        """`costs` gives the largest number of tokens in a prompt's cache. Prompts start together
        if `alike` gives the same value. With `joins`, prompts may start while others run.

        With `joins` the shortest start first, so that a new row is about as long as those that
        run. Otherwise the longest start first: what does not fit is known at once.
        """
        self._costs, self._alike, self._joins = costs, alike, joins
        self._budget, self.most_rows = budget_tokens, most_rows
        self._waiting = deque(self._sorted(prompts))
        self._apart: list[list[Prompt]] = []
        """Batches that failed; each runs by itself."""
        self._to_join: deque[list[Prompt]] = deque()
        """Prompts of the batch that runs by itself, not started yet."""
        self._runs_apart = False
        self.running: dict[int, Prompt] = {}
        """Prompts that run now, by `Prompt.row`."""

    def is_done(self) -> bool:
        return not (self.running or self._waiting or self._apart or self._to_join)

    def admit(self) -> list[Prompt]:
        """The prompts that start now, all alike; empty if there is no room or none is waiting."""
        if not self.running and not self._to_join:
            self._runs_apart = bool(self._apart)
            if self._apart:
                self._to_join = deque(self._groups(self._apart.pop()))
        if self._runs_apart:
            may_start = self._to_join and (self._joins or not self.running)
            found = self._to_join.popleft() if may_start else []
        else:
            found = self._next_waiting()
        self.running.update((prompt.row, prompt) for prompt in found)
        return found

    def finish(self, rows: Collection[int]) -> None:
        """Remove rows that have an answer."""
        for row in rows:
            del self.running[row]

    def fail(self, *, out_of_memory: bool) -> list[Prompt]:
        """Handle a failure of the running prompts: returns the one that failed alone, else none."""
        failed = [*self.running.values(), *(p for group in self._to_join for p in group)]
        self.running.clear()
        self._to_join.clear()
        if len(failed) == 1:
            return failed
        if out_of_memory:
            self.most_rows = max(1, len(failed) // 2)
            self._budget = max(1, min(self._budget, self._cost(failed) // 2))
            self._waiting = deque(self._sorted([*failed, *self._waiting]))
        else:
            middle = len(failed) // 2
            self._apart += [failed[:middle], failed[middle:]]
        return []

    def tokens(self) -> int:
        """Largest number of tokens that the running prompts may reach together."""
        return self._cost(self.running.values())

    def _next_waiting(self) -> list[Prompt]:
        found: list[Prompt] = []
        if self.running and not self._joins:
            return found
        while self._waiting:
            prompt = self._waiting[0]
            together = [*self.running.values(), *found, prompt]
            is_full = len(together) > self.most_rows or self._cost(together) > self._budget
            if len(together) > 1 and is_full:
                break
            if found and self._alike(found[0]) != self._alike(prompt):
                break
            found.append(self._waiting.popleft())
        return found

    def _cost(self, prompts: Iterable[Prompt]) -> int:
        costs = [self._costs(prompt) for prompt in prompts]
        return len(costs) * max(costs, default=0)

    def _sorted(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        sign = 1 if self._joins else -1
        return sorted(prompts, key=lambda p: (sign * self._costs(p), sign * len(p.ids)))

    def _groups(self, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
        ordered = self._sorted(prompts)
        return [list(group) for _, group in groupby(ordered, key=self._alike)]
