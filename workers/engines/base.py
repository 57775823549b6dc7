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
from schemas.errors import ModelError
from workers.models.choice_tokens import ChoiceTree

Output = Literal["sequence", "tokens", "hidden", "token_logits", "choices"]
"""Logits of a row; logits of each token (of a question answerer, those of start and end); what a
row's vector is pooled from: the last hidden state of each token, or its logits; and the logarithm of
each choice's probability."""

Handle = Callable[[], np.ndarray]
"""A running batch; calling it waits for its result."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a task asks of an engine: the model, its head and its output."""

    load: LoadRequest
    config: Any
    """The model's configuration, as transformers reads it."""
    tokenizer: Any
    output: Output
    auto_class: Any
    """The class of transformers that has the head the task needs."""
    unused_weights: tuple[str, ...] = ()
    """Parts of names of weights that a checkpoint may lack."""
    trees: Sequence[ChoiceTree] = ()
    """What is read behind a prompt, where the output is of choices."""
    pool: Callable[[Any, Any], Any] | None = None
    """How token vectors become row vectors, on the device: `(flat, rows)` to `[rows, width]`; see
    `workers.engines.packed.families.Rows`. None: `[tokens, width]`."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a task needs to know about a loaded model."""

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

    @property
    def in_flight(self) -> int:
        """Batches to submit before the first one is collected; 1: none ahead."""

    def load(self, request: EngineRequest) -> LoadedModel:
        """Load the weights to the device; called once, first.

        Raises:
            ModelError: the folder has no such model, or the engine cannot run it.
        """

    def prepare(self, encode: Callable[[Sequence[str]], Encodings]) -> None:
        """Find out how to run batches fastest, on test texts of the engine; called once.

        `encode` is the task's tokenizer. A batch must give the same numbers as each row alone,
        within the rounding of the precision.
        """

    def submit(self, batch: Encodings) -> Handle:
        """Start a batch, longest rows first; returns before it is done if the device can do that.

        Out-of-memory errors are raised here; any other error may be raised by `collect`.
        """

    def collect(self, handle: Handle) -> np.ndarray:
        """A started batch's numbers, float32 on the host, `[rows, width]` or `[tokens, width]`."""

    def costs(self, rows: Encodings) -> np.ndarray:
        """How much of the token budget each row uses, int64 `[rows]`."""

    def default_batch_tokens(self) -> int:
        """The token budget of a batch if none is set and none was found."""

    def budget_facts(self) -> dict[str, str]:
        """What the best budget depends on besides the model: device, versions, mode."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True if a smaller batch could help."""

    def is_device_lost(self, error: BaseException) -> bool:
        """True if the device accepts no more work from this process."""


def wanted_of(out: Any, output: Output, model_type: str) -> Any:
    """The tensor of a transformers model's output that a task reads.

    Raises:
        ModelError: it gives no hidden states, and they are wanted.
    """
    if output == "hidden" and "last_hidden_state" not in out:
        raise ModelError(
            f"a model of type {model_type} gives {', '.join(out)} and no hidden "
            "states (last_hidden_state): there is nothing to make a vector of"
        )
    if output == "tokens" and "start_logits" in out:
        import torch

        return torch.stack((out["start_logits"], out["end_logits"]), dim=-1)
    return out["logits" if output != "hidden" and "logits" in out else "last_hidden_state"]
