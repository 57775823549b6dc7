"""The port of an engine: what turns token ids into a model's numbers on one device.

A task says what it wants of a model (`EngineRequest`) and asks `workers.engines.catalog` for an
engine by the job's name for it; it makes none itself. Token ids go in and NumPy arrays come out:
only an engine touches tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from headrace.tasks.contract import Encodings, LoadRequest

Output = Literal["sequence", "tokens", "hidden", "token_logits"]
"""Logits of a row; logits of each token (of a question answerer, those of start and end); and what a
row's vector is pooled from: the last hidden state of each token, or its logits."""

Handle = Callable[[], np.ndarray]
"""A batch on its way; calling it waits, and gives the numbers."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a task wants of a model."""

    load: LoadRequest
    config: Any
    """The model's configuration, as transformers reads it."""
    tokenizer: Any
    output: Output
    auto_class: Any
    """The class of transformers that has the head the task needs."""
    unused_weights: tuple[str, ...] = ()
    """Parts of names of weights that a checkpoint may lack."""
    pool: Callable[[Any, Any], Any] | None = None
    """How token vectors become row vectors, on the device: `(flat, rows)` to `[rows, width]`; see
    `workers.engines.packed.families.Rows`. None: `[tokens, width]`."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What an engine knows of a model that it has loaded."""

    config: Any
    """Its configuration, completed by its own code."""
    positions: int | None
    """Rows of a learned position table; None: positions are computed."""


class Engine(Protocol):
    """One model on one device, for one thread at a time."""

    @property
    def padded(self) -> bool:
        """True when a batch costs its rows times the longest, false when the sum of its rows."""

    @property
    def width(self) -> int:
        """Numbers of each row or token, as they come out; known after `prepare`."""

    def load(self, request: EngineRequest) -> LoadedModel:
        """Bring the weights to the device; called once, before anything else.

        Raises:
            ModelError: the folder has no such model, or the engine cannot run it.
        """

    def prepare(self, encode: Callable[[Sequence[str]], Encodings]) -> None:
        """Find out how batches are run best, on texts of the engine's own; called once.

        `encode` is the task's tokenizer. What comes out of a batch must be, within the rounding
        of the precision, what comes out of each row alone.
        """

    def submit(self, batch: Encodings) -> Handle:
        """Start a batch, rows longest first, and return before it is done where the device can.

        What does not fit in memory is raised here, any other error may come with `collect`.
        """

    def collect(self, handle: Handle) -> np.ndarray:
        """A started batch's numbers, float32 on the host, `[rows, width]` or `[tokens, width]`."""

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of a batch's budget that each row takes, int64 `[rows]`."""

    def default_batch_tokens(self) -> int:
        """The token budget of a batch where none is set and none was found."""

    def budget_facts(self) -> dict[str, str]:
        """What the best budget depends on beside the job's model: device, versions, the way used."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True when a smaller batch could help."""

    def is_device_lost(self, error: BaseException) -> bool:
        """True when the device computes nothing more for this process, whatever it is given."""
