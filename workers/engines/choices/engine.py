"""The engine of headrace's own, for a model that chooses."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings
from schemas.errors import ConfigError
from schemas.records.engine import PACKED
from workers.engines.base import EngineRequest
from workers.engines.choices.runner import ChoiceRunner
from workers.engines.packed.engine import PackedEngine
from workers.engines.packed.probes import PROBE

ALIKE = "The weather is fine today, is it not? one two three "
"""What some probes begin with, so that a shared beginning is tried too."""


class ChoiceEngine(PackedEngine):
    """See `workers.engines.base.Engine`; its numbers are those of `ChoiceRunner`."""

    runner: ChoiceRunner
    has_lanes = False  # the keys of what prompts share are the runner's

    def make_runner(self, request: EngineRequest, model: Any, **more: Any) -> ChoiceRunner:
        return ChoiceRunner(model, request.output, trees=request.trees, **more)

    def probes(self) -> list[list[str]]:
        return [*super().probes(), [ALIKE + text for text in PROBE]]

    def costs(self, rows: Encodings) -> np.ndarray:
        return self.runner.costs(rows)


def make_choice_engine(name: str) -> ChoiceEngine:
    """A new engine with nothing loaded.

    Raises:
        ConfigError: another engine is asked for, which reads no choices.
    """
    if name != PACKED:
        raise ConfigError(f"choice runs on the engine {PACKED}, and not on {name!r}")
    return ChoiceEngine()
