"""What all tasks on a transformers model share: every method of `Task` but `columns` and `decode`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, LoadRequest, PartRead
from schemas.errors import OutputMismatch
from workers.devices import device
from workers.engines.base import Engine, EngineRequest, Output
from workers.engines.catalog import make_engine
from workers.models.choice_tokens import ChoiceTree
from workers.models.load import (
    check_head,
    check_vocabulary,
    load_config,
    load_tokenizer,
    max_length_of,
)
from workers.models.tokenizer import encoder_of, special_token

# Words of the text that a probe's rows are made of, again and again. Chosen: more than most rows.
PROBE_WORDS = 1024


class TransformerTask:
    """A task on a transformers model; subclasses say which model, and what its numbers mean."""

    task: ClassVar[str]
    architecture: ClassVar[str | None]
    """Suffix of the model's class name; None if any model will do."""
    output: ClassVar[Output]
    """What the engine returns for a batch."""
    unused_weights: ClassVar[tuple[str, ...]] = ()
    """Parts of names of weights that the task does not need."""
    empty_is_a_text: ClassVar[bool] = False
    """Whether an empty second text still makes a pair."""

    def __init__(self, make: Callable[[str], Engine] = make_engine) -> None:
        self._make_engine = make

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`."""
        self.engine = self._make_engine(request.engine)
        self.config = load_config(request)
        if self.architecture is not None:
            check_head(self.config, request, self.architecture, self.task)
        self.tokenizer = load_tokenizer(request)
        check_vocabulary(request, self.tokenizer, self.config)
        self.prepare(request)
        found = self.engine.load(
            EngineRequest(
                load=request,
                config=self.config,
                tokenizer=self.tokenizer,
                output=self.output,
                auto_class=self.auto_class(),
                unused_weights=self.unused_weights,
                pool=self.pool(),
                trees=self.trees(),
            )
        )
        self.config = found.config
        self.max_length = max_length_of(request, self.tokenizer, found.positions)
        self._encoder = encoder_of(
            self.tokenizer,
            self.max_length,
            stand_in=special_token(self.config, self.tokenizer, "bos", "eos", "pad"),
            extra=self.extra(),
            ahead=request.device != device.CPU,
            empty_is_a_text=self.empty_is_a_text,
        )
        self.engine.prepare(self.plain)
        self.width = self.engine.width
        self.check_width(request)

    @property
    def padded(self) -> bool:
        """Whether a batch costs its rows times the longest; else it costs the sum of its rows."""
        return self.engine.padded

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`."""
        return self._encoder(texts, pairs)

    def plain(self, texts: Sequence[str]) -> Encodings:
        """Texts as the model reads them one by one, with the task's own prompt; for probes."""
        return self.encode(texts)

    @property
    def part_read(self) -> PartRead:
        """See `SupportsPartRead.part_read`."""
        if getattr(self.tokenizer, "truncation_side", "right") != "left":
            return "beginning"
        return "end" if self.extra() is None else "all"  # character offsets count from the start

    @property
    def tokenizer_library(self) -> str:
        """See `SupportsTokenizerName.tokenizer_library`."""
        return getattr(self._encoder, "library", "")

    def costs(self, rows: Encodings) -> np.ndarray:
        """See `SupportsRowCosts.costs`."""
        return self.engine.costs(rows)

    def forward(self, batch: Encodings) -> np.ndarray:
        """See `Task.forward`; float32, `[rows, width]` or `[tokens, width]` as `output` says."""
        return self.engine.collect(self.engine.submit(batch))

    def numbers(self, batch: Encodings, output: Any) -> np.ndarray:
        """The engine's output as float32 `[rows, width]` or `[tokens, width]`, if it is that.

        Raises:
            OutputMismatch: it has another shape, and its numbers may be those of other rows.
        """
        found = np.ascontiguousarray(output, dtype=np.float32)
        lines = len(batch.ids) if self.output == "tokens" else len(batch)
        if found.shape != (lines, self.width):
            raise OutputMismatch(
                f"the model gave numbers of shape {found.shape} for {lines} lines of {self.width}"
            )
        return found

    def not_finite(self, batch: Encodings, output: Any) -> np.ndarray:
        """See `SupportsRowChecks.not_finite`: any logit of the row or of its tokens counts."""
        bad = np.asarray(~np.isfinite(self.numbers(batch, output)).all(axis=1))
        if self.output != "tokens":
            return bad
        return np.logical_or.reduceat(bad, batch.offsets[:-1])

    def launch(self, batch: Encodings) -> Callable[[], np.ndarray]:
        """See `SupportsAsyncForward.launch`."""
        return partial(self.engine.collect, self.engine.submit(batch))

    @property
    def in_flight(self) -> int:
        """See `SupportsInFlight.in_flight`."""
        return self.engine.in_flight

    def is_device_lost(self, error: BaseException) -> bool:
        """See `SupportsAsyncForward.is_device_lost`."""
        return self.engine.is_device_lost(error)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Task.is_out_of_memory`."""
        return self.engine.is_out_of_memory(error)

    def default_batch_tokens(self) -> int:
        """See `Task.default_batch_tokens`."""
        return self.engine.default_batch_tokens()

    def probe_batch(self, tokens: int, row_tokens: int | None) -> Encodings:
        """See `SupportsBudgetSearch.probe_batch`."""
        # only a few rows: a text of a million tokens would take seconds and gigabytes to make
        longest = min(row_tokens or self.max_length, self.max_length, tokens)
        row = self.plain(["one two three four five six seven " * min(longest, PROBE_WORDS)])
        kept = longest if len(row.ids) >= min(longest, PROBE_WORDS) else len(row.ids)
        # the special token at the end stays: some heads look for it
        at = np.append(np.resize(np.arange(max(1, len(row.ids) - 1)), kept - 1), len(row.ids) - 1)
        rows = max(1, tokens // kept)
        return Encodings(
            ids=np.tile(row.ids[at], rows),
            offsets=np.arange(rows + 1, dtype=np.int64) * kept,
            truncated=np.ones(rows, dtype=bool),
            type_ids=None if row.type_ids is None else np.tile(row.type_ids[at], rows),
        )

    def budget_facts(self) -> dict[str, str]:
        """See `SupportsBudgetSearch.budget_facts`."""
        return {**self.engine.budget_facts(), "max_length": str(self.max_length)}

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
        """Read the parameters; configuration and tokenizer are loaded, the weights are not."""

    def check_width(self, request: LoadRequest) -> None:
        """Check that the task can use lines of `self.width` numbers.

        Raises:
            ModelError: it cannot.
        """

    def extra(self) -> Callable[[str, Any], Any] | None:
        """What `decode` needs of a row, from its text and its encoding."""
        return None

    def pool(self) -> Callable[[Any, Any], Any] | None:
        """How token vectors become row vectors, on the device."""
        return None

    def trees(self) -> Sequence[ChoiceTree]:
        """What is read behind a prompt."""
        return ()


class ItemsTask(TransformerTask):
    """A task of which a row becomes items; it makes them with the usual tokenizer library."""

    @property
    def tokenizer_library(self) -> str:
        """See `SupportsTokenizerName.tokenizer_library`."""
        return ""

    def plain(self, texts: Sequence[str]) -> Encodings:
        """See `TransformerTask.plain`: the whole of each text is one row."""
        return self._encoder(texts, None)
