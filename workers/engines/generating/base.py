"""The port of an engine that generates text: prompts in, texts out, each with its finish reason.

A task renders prompts and asks `workers.engines.generating.catalog` for an engine by the job's name
for it. The engine does its own batching. Rules for every engine:

- **One answer per prompt**, in any order, each as soon as it is known. A prompt that fails is an
  answer with its error; the other prompts of its batch run again without it, and none is lost.
- **The text does not depend on the batch.** Batch size, order, and rows that join or leave a batch
  change no text. With float32, greedy and beam texts are those of `generate` on each prompt alone,
  except for ties under 1e-4. Sampling depends on the job's seed, the prompt's key and the step, so
  that a retry gives the same text on any worker.
- **`watch.check()` between steps**, at least once a second: the job may be paused or cancelled, the
  lease lost, the worker drained. What it raises is passed on, and the engine stays usable.
- **`watch.holding(rows)` before the model gets a row.** If the process dies, the cause is searched
  among the rows that were reported last. Each `check` restarts the time limit.
- **No silent changes.** An engine refuses a setting that it lacks in `load`. It does not truncate
  prompts: the task does, or the row is an error. It never exceeds `max_new_tokens`.
- **A grammar is followed, or the engine is refused.** With `settings.grammar` no text breaks it. An
  engine that can do so has a true attribute `follows_grammars`; others never get such a job.
- **Each answer begins with `Prompt.first`,** where there is one, such as a language. An engine that can
  do so has a true attribute `takes_first_tokens`; others never get such a job.
- **Each prompt has its own settings,** where it brings some. An engine that can do so has a true
  attribute `takes_row_settings`; others never get such a job.
- **The engine handles out-of-memory:** it runs the same rows again, fewer at once. A single row that
  does not fit is an answer with `OutOfMemory`.
- **Only `load` reads the model's folder.** No network access, unless the engine is a remote one.
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
    """What a task asks of an engine: the model and how it generates."""

    load: LoadRequest
    settings: GenerationSettings
    """Complete: an engine reads no generation_config.json."""
    config: Any
    """The model's configuration, as transformers reads it."""
    tokenizer: Any
    """The model's tokenizer, from transformers; encodes prompts and decodes answers."""
    seed: int
    """Seed of the job's sampling."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text that the model continues or answers."""

    row: int
    """The caller's row number; the answer has the same."""
    ids: np.ndarray
    """int32 `[tokens]`, special tokens added, at least one."""
    text: str
    """The same as text, rendered by the chat template where there is one."""
    key: bytes
    """16 bytes, equal for equal prompts; sampling depends on it and on the seed."""
    max_new_tokens: int
    """Largest number of new tokens, at least one."""
    first: int | None = None
    """The token that this answer begins with, in place of the settings' `forced_bos_token_id`. All
    prompts of a job have one, or none has."""
    settings: GenerationSettings | None = None
    """This prompt's own, but for lengths; None: the job's. Prompts with equal ones share the object."""
    seed: int | None = None
    """Of this prompt's sampling; None: the job's."""


class GeneratingEngine(Protocol):
    """One model on one device, for one thread at a time."""

    def load(self, request: GenerationRequest) -> None:
        """Load the model to the device; called once, first.

        Raises:
            ModelError: the folder has no such model, or the engine cannot run it.
            ConfigError: a setting that the engine does not have.
        """

    def generate(
        self, prompts: Sequence[Prompt], watch: Watch, budget_tokens: int
    ) -> Iterator[Answer]:
        """One answer for each prompt, in any order.

        `budget_tokens` limits the tokens of all running rows together: prompts and answers, times
        the beams. A single row may have more.

        Raises:
            Stopped, LeaseLost: from `watch.check`.
            DeviceLost: the device accepts no more work from this process.
            EngineDied: a process of the engine's own ended; the rows reported last are suspects.
        """

    def default_batch_tokens(self) -> int:
        """The default token budget, from the free memory; known after `load`."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True if a smaller batch could help."""

    def is_device_lost(self, error: BaseException) -> bool:
        """True if the device accepts no more work from this process."""
