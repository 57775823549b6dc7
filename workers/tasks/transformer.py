"""What the tasks that run a transformers model have in common: four of the five verbs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, LoadRequest
from workers.devices import device
from workers.engines.packed.int8 import SENTENCES
from workers.models.load import (
    check_head,
    load_config,
    load_model,
    load_tokenizer,
    max_length_of,
)
from workers.models.tokenizer import Encoder

# Tokens of a batch. CPU: beyond some 2,000 nothing was gained (measured).
# GPU: chosen, about what fills an H200 with a base-sized model.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}

# Rows of very different lengths, so that a wrong packing or a wrong mask shows.
PROBE = ["a", "The weather is fine today, is it not?", "one two three four five six seven " * 3]
# A GPU computes rows of up to 16, 32, 64, 128 and of more tokens by a kernel of their own each; those
# of 32 are in the probe above.
GPU_PROBES = [["a", "one two three four five six seven " * n] for n in (1, 7, 14, 28)]


class TransformerTask:
    """A task on a transformers model; subclasses say which model, and what its numbers mean."""

    task: ClassVar[str]
    architecture: ClassVar[str | None]
    """What the name of the model's class ends with; None: any model will do."""
    output: ClassVar[Any]
    """What the runner returns, see `runner.Output`."""
    unused_weights: ClassVar[tuple[str, ...]] = ()
    """Parts of names of weights that the task does not need."""

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`."""
        from workers.engines.packed.runner import Runner

        self.config = load_config(request)
        if self.architecture is not None:
            check_head(self.config, request, self.architecture, self.task)
        self.tokenizer = load_tokenizer(request)
        self.prepare(request)
        model = load_model(request, self.config, self.auto_class(), self.unused_weights)
        self.config = model.config
        self.max_length = max_length_of(request, self.tokenizer, model)
        self._encoder = Encoder(
            self.tokenizer,
            self.max_length,
            stand_in=_special(self.config, self.tokenizer, "bos", "eos", "pad"),
            extra=self.extra(),
            ahead=request.device != device.CPU,
        )
        self._device = request.device
        self._runner = Runner(
            model,
            self.output,
            device=request.device,
            pad_id=_special(self.config, self.tokenizer, "pad"),
            pool=self.pool(),
        )
        if request.dtype == "int8":
            self._runner.round_weights(self._encoder(SENTENCES))
        more = [] if request.device == device.CPU else GPU_PROBES
        self._runner.choose_mode(*map(self._encoder, [PROBE, *more]))

    @property
    def padded(self) -> bool:
        """True when a batch costs its rows times the longest, false when the sum of its rows."""
        return self._runner.mode == "padded"

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`."""
        return self._encoder(texts, pairs)

    def forward(self, batch: Encodings) -> np.ndarray:
        """See `Task.forward`; float32, `[rows, width]` or `[tokens, width]` as `output` says."""
        return self._runner(batch)

    def launch(self, batch: Encodings) -> Callable[[], np.ndarray]:
        """See `Launching.launch`."""
        return self._runner.launch(batch)

    def is_device_lost(self, error: BaseException) -> bool:
        """See `Launching.is_device_lost`."""
        return not self.is_out_of_memory(error) and device.is_lost(self._device)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Task.is_out_of_memory`."""
        return device.is_out_of_memory(error)

    def default_batch_tokens(self) -> int:
        """See `Task.default_batch_tokens`."""
        return BATCH_TOKENS[device.kind_of(self._device)]

    def probe_batch(self, tokens: int, row_tokens: int | None) -> Encodings:
        """See `Probed.probe_batch`."""
        row = self._encoder(["one two three four five six seven " * self.max_length])
        kept = min(row_tokens or self.max_length, len(row.ids))
        # the special token that ends a row stays, some heads look for it
        at = np.append(np.arange(kept - 1), len(row.ids) - 1)
        rows = max(1, tokens // kept)
        return Encodings(
            ids=np.tile(row.ids[at], rows),
            offsets=np.arange(rows + 1, dtype=np.int64) * kept,
            truncated=np.ones(rows, dtype=bool),
            type_ids=None if row.type_ids is None else np.tile(row.type_ids[at], rows),
        )

    def budget_facts(self) -> dict[str, str]:
        """See `Probed.budget_facts`."""
        return {
            "mode": self._runner.mode,
            "device": device.name_of(self._device),
            "threads": str(device.threads_of(self._device)),
            "max_length": str(self.max_length),
        }

    # -- what a subclass says

    @abstractmethod
    def auto_class(self) -> Any:
        """The class of transformers that loads the model."""

    @abstractmethod
    def columns(self) -> list[pa.Field]:
        """See `Task.columns`."""

    @abstractmethod
    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        """See `Task.decode`."""

    def prepare(self, request: LoadRequest) -> None:
        """Read the parameters; configuration and tokenizer are there, the weights are not."""

    def extra(self) -> Callable[[str, Any], Any] | None:
        """What `decode` needs of a row, from its text and its encoding."""
        return None

    def pool(self) -> Callable[[Any, Any], Any] | None:
        """How token vectors become row vectors, on the device."""
        return None


def _special(config: Any, tokenizer: Any, *names: str) -> int:
    """The id of the first of the special tokens that the model or its tokenizer has, else 0."""
    for name in names:
        for owner in (config, tokenizer):
            value = getattr(owner, f"{name}_token_id", None)
            # some configurations list several, some tokenizers have more tokens than the model
            if isinstance(value, int) and 0 <= value < config.vocab_size:
                return value
    return 0
