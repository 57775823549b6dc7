"""The port of an engine that generates: prompts in, texts out, each with how it ended.

A task renders prompts and asks `workers.engines.generating.catalog` for an engine by the job's name
for it. The engine has its own batching. What every engine must keep:

- **One answer a prompt**, in any order, each as soon as it is known. A prompt that fails is an
  answer with its error; its neighbours are computed again without it. No half of a batch is lost.
- **The same text whatever the neighbours.** Batch size, order, and rows that join or leave a batch
  change no text. With float32, greedy and beam text is that of `generate` on each prompt alone, but
  for ties under 1e-4. Noise of sampling comes from the job's seed, the prompt's key and the step, so
  that a retry, on any worker, gives the same text.
- **`watch.check()` between steps**, at least once a second: the job may be paused or cancelled, the
  lease lost, the worker drained. What it raises is passed on, and the engine stays usable.
- **`watch.holding(rows)` before the model sees a row.** If the process dies, one of the rows named
  last is to blame, and the rows are searched for it. Each `check` restarts the time limit.
- **Nothing in silence.** An engine that cannot do a setting refuses it in `load`. It cuts no prompt:
  the task has cut it, or it is an error. It does not run longer than `max_new_tokens`.
- **Out of memory is the engine's matter:** fewer rows at once, and the same rows again. A single
  row that does not fit is an answer with `OutOfMemory`.
- **Only `load` reads the model's folder.** No network, unless the engine is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.answer import Answer, FinishReason, Watch
from headrace.tasks.generation.settings import GenerationSettings

__all__ = ["Answer", "FinishReason", "GeneratingEngine", "GenerationRequest", "Prompt", "Watch"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a task wants of a model."""

    load: LoadRequest
    settings: GenerationSettings
    """Complete: an engine reads no generation_config.json."""
    config: Any
    """The model's configuration, as transformers reads it."""
    tokenizer: Any
    """As transformers reads it; it made the prompts, and makes texts of new tokens."""
    seed: int
    """Of the job's noise."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is to go on from."""

    row: int
    """The caller's number of it; the answer carries it."""
    ids: np.ndarray
    """int32 `[tokens]`, special tokens added, at least one."""
    text: str
    """The same as text, rendered by the chat template where there is one."""
    key: bytes
    """16 bytes, equal for equal prompts: what noise depends on beside the seed."""
    max_new_tokens: int
    """Tokens that may be generated, at least one."""


class GeneratingEngine(Protocol):
    """One model on one device, for one thread at a time."""

    def load(self, request: GenerationRequest) -> None:
        """Bring the model to the device; called once, before anything else.

        Raises:
            ModelError: the folder has no such model, or the engine cannot run it.
            ConfigError: a setting that the engine does not have.
        """

    def generate(
        self, prompts: Sequence[Prompt], watch: Watch, budget_tokens: int
    ) -> Iterator[Answer]:
        """One answer for each prompt, in any order.

        `budget_tokens` is what the rows in the model at once may have together: tokens of prompts
        and of answers, times the beams. One row alone may have more.

        Raises:
            Stopped, LeaseLost: from `watch.check`.
            DeviceLost: the device computes nothing more for this process.
        """

    def default_batch_tokens(self) -> int:
        """The budget where none is set, from the memory that there is; known after `load`."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True when fewer rows at once could help."""

    def is_device_lost(self, error: BaseException) -> bool:
        """True when the device computes nothing more for this process, whatever it is given."""
