"""The beginning that most prompts of a job have in common, as instructions: read and held once.

The prompts that begin with it have only what follows in their caches: see `shared_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workers.engines.generating.base import Prompt
from workers.engines.stepwise.prompts import read_beginning
from workers.engines.stepwise.shared_attention import Beginning

LEAST = 16
"""Tokens. Chosen: a shorter beginning costs as much as it saves."""
GOOD_ENOUGH = 0.75
"""A beginning that was read before is used again if it is this share of the common one. Chosen:
prompts of one call that go on alike by chance must not replace it."""


class SharedStart:
    """Finds the common beginning of an engine's prompts, and reads it when a prompt needs it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._ids = np.zeros(0, dtype=np.int32)
        self._beginning: Beginning | None = None

    def look_at(self, prompts: Sequence[Prompt]) -> None:
        """Choose the beginning for these prompts; what was read before stays if it fits."""
        common = common_start([prompt.ids for prompt in prompts])
        known = len(self._ids)
        fits = known <= len(common) and np.array_equal(common[:known], self._ids)
        if not (known and fits and known >= GOOD_ENOUGH * len(common)):
            self._ids, self._beginning = common, None

    def covers(self, prompt: Prompt) -> bool:
        """Whether the prompt begins with the chosen tokens, and has more of its own."""
        known = len(self._ids)
        return 0 < known < len(prompt.ids) and np.array_equal(prompt.ids[:known], self._ids)

    def own_tokens(self, prompt: Prompt) -> int:
        """Tokens that are read and held for this prompt alone."""
        return len(prompt.ids) - (len(self._ids) if self.covers(prompt) else 0)

    def beginning(self) -> Beginning:
        """The chosen beginning, read now if it was not before."""
        if self._beginning is None:
            self._beginning = read_beginning(self._model, self._ids)
        return self._beginning


def common_start(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The tokens with which the largest group of rows begins; empty if under `LEAST`.

    A group's rows have their first `LEAST` tokens in common, and each has one more of its own.
    """
    groups: dict[bytes, list[np.ndarray]] = {}
    for row in rows:
        if len(row) > LEAST:
            groups.setdefault(row[:LEAST].tobytes(), []).append(row)
    group = max(groups.values(), key=len, default=[])
    if len(group) < 2:
        return np.zeros(0, dtype=np.int32)
    most = min(len(row) for row in group) - 1
    starts = np.stack([row[:most] for row in group])
    same = (starts == starts[0]).all(axis=0)
    start: np.ndarray = starts[0][: most if same.all() else int(np.argmin(same))]
    return start
