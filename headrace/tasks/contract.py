"""The plug-in: what a task must do for headrace to run it over a corpus.

A task has five methods. `load` and `forward` run on the device's thread. `encode` and `decode` run
on the CPU, on threads of their own, while the device computes another batch. `columns` names what
`decode` returns. Only `forward` may use tensors; everything else is NumPy and Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from headrace.tasks.fan_out import FanOut
from headrace.tasks.generation.answer import Answer, Watch
from schemas.records.engine import PACKED


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The input of `load`: everything that decides the predictions, nothing else."""

    model_path: str
    """A local folder; a model from the hub or `s3://` is fetched and its digest checked before."""
    device: str
    """`cpu` or `cuda:0`; the process sees its own device only."""
    dtype: str
    """`float32`, `bfloat16`, `float16` or `int8`, as the job resolved it."""
    max_length: int | None
    """Maximum tokens per row, special tokens included; None: the model's own limit."""
    params: Mapping[str, Any]
    """The task's own options, e.g. `{"scores": true}` or `{"aggregation": "simple"}`."""
    trust_remote_code: bool = False
    allow_pickle: bool = False
    engine: str = PACKED
    """Name of the engine in `workers.engines.catalog`; a task may ignore it and bring its own."""
    warn: Callable[[str], object] = field(default=str, compare=False)
    """Takes a sentence about the model that the person should read; it is shown with the job."""


@dataclass(frozen=True, slots=True)
class Encodings:
    """Rows as token ids, flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    `ids` and `type_ids` are int32 `[tokens]`, `offsets` int64 `[rows + 1]`, `truncated` bool
    `[rows]`. `extra` holds one item per row that `decode` needs (text, character offsets).

    Where a row becomes several items (`SupportsFanOut`), all of these are of items, and `fan` says
    which items each row has. A batch is of items, and has no `fan`.
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray
    type_ids: np.ndarray | None = None
    extra: Sequence[Any] | None = None
    fan: FanOut | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, int64 `[rows]`."""
        return np.diff(self.offsets)

    @property
    def row_tokens(self) -> np.ndarray:
        """Tokens of each row, all its items together, int64 `[rows]`."""
        return self.lengths if self.fan is None else self.fan.sums(self.lengths)

    @property
    def row_truncated(self) -> np.ndarray:
        """True for each row of which any item was cut, bool `[rows]`."""
        return self.truncated if self.fan is None else self.fan.sums(self.truncated) > 0

    def take(self, rows: np.ndarray) -> Encodings:
        """The rows (or items) at these positions (int64 `[k]`), in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        # one gather for the whole batch: positions in the flat array, row by row
        at = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Encodings(
            ids=self.ids[at],
            offsets=offsets,
            truncated=self.truncated[rows],
            type_ids=None if self.type_ids is None else self.type_ids[at],
            extra=None if self.extra is None else [self.extra[int(i)] for i in rows],
        )


@runtime_checkable
class Task(Protocol):
    """One instance lives in one worker process and serves one model on one device."""

    def load(self, request: LoadRequest) -> None:
        """Load the tokenizer and the model onto the device; called once, before anything else.

        Raises:
            ModelError: the folder has no usable model, or its model has no head for this task.
        """

    def columns(self) -> list[pa.Field]:
        """The task's own output columns, all nullable; valid after `load`."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """Token ids of the texts, special tokens added, truncated to max-length; thread-safe."""

    def forward(self, batch: Encodings) -> Any:
        """The model's output for the batch, in host memory, in the form that `decode` takes.

        Rows arrive longest first. May raise the device's own out-of-memory error; the caller then
        halves the batch (see `is_out_of_memory`).
        """

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        """The columns that `columns` names, one value per row of the batch, in its order."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True when the error is lack of memory, so that a smaller batch could succeed."""

    def default_batch_tokens(self) -> int:
        """The default token budget of a batch on this device."""


@runtime_checkable
class SupportsBudgetSearch(Protocol):
    """Optional methods of a task: its budget is searched by trial and kept for the next start."""

    def probe_batch(self, tokens: int, row_tokens: int | None) -> Encodings:
        """A trial batch of about `tokens` tokens in rows of `row_tokens`; its output is not used.

        None: rows of the maximum length.
        """

    def budget_facts(self) -> dict[str, str]:
        """What the best budget depends on besides the job's model: device, versions, kernels."""


@runtime_checkable
class SupportsRowCosts(Protocol):
    """Optional method of a task whose rows cost more than their tokens."""

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of the batch's budget that each row takes, int64 `[rows]`."""


@runtime_checkable
class SupportsFanOut(Protocol):
    """Optional methods of a task of which a row becomes several items, each with its own forward.

    `encode` then returns items with their `fan`, `forward` and `decode` see items, and `join` makes
    the rows. A row with a failed item is an error; `join` does not see it.
    """

    reads_whole_text: bool
    """True: `encode` uses all of a long text, and not a prefix of `max_length` tokens."""

    def count_items(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """About how many items each row becomes, int64 `[rows]`; cheap, before it is tokenized."""

    def item_columns(self) -> list[pa.Field]:
        """What `decode` returns for each item; `columns` is what `join` returns for each row."""

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that `columns` names, one value per row of `fan`, from all decoded items."""


PartRead = Literal["beginning", "end", "all"]
"""Which part of a long text a task reads, of as many tokens as a row may have."""


@runtime_checkable
class SupportsPartRead(Protocol):
    """Optional property of a task that may read another part of a long text than its beginning."""

    @property
    def part_read(self) -> PartRead:
        """The part; `all` also where `decode` needs places in the whole text. Valid after `load`."""


@runtime_checkable
class SupportsGeneration(Protocol):
    """Optional method of a task whose engine batches the rows of a window itself."""

    def generate(self, rows: Encodings, watch: Watch, budget_tokens: int) -> Iterator[Answer]:
        """One answer for each row, in any order; `Answer.row` is its place. See
        `workers.engines.generating.base`. `decode` gets answers without an error."""


@runtime_checkable
class SupportsTokenizerName(Protocol):
    """Optional property of a task that may tokenize by another library than the usual one."""

    @property
    def tokenizer_library(self) -> str:
        """Name and version, for the record; empty where it is the usual one."""


@runtime_checkable
class SupportsRowChecks(Protocol):
    """Optional method of a task whose `decode` does not return all of the model's numbers.

    Without it, NaN and infinity are looked for in every float column that `decode` returns.
    """

    def not_finite(self, batch: Encodings, output: Any) -> np.ndarray:
        """True for each row whose numbers hold NaN or infinity, bool `[rows]`: an error row."""


@runtime_checkable
class SupportsAsyncForward(Protocol):
    """Optional methods of a task whose device runs batches asynchronously."""

    def launch(self, batch: Encodings) -> Callable[[], Any]:
        """Start the forward pass and return at once; calling the result waits for the output.

        Out of memory is raised here; any other error may be raised by the wait.
        """

    def is_device_lost(self, error: BaseException) -> bool:
        """True when the device will not compute anything more for this process."""


@runtime_checkable
class SupportsInFlight(Protocol):
    """Optional property of a task that knows how many batches its device can have at a time.

    Without it, a GPU has two and a CPU one.
    """

    @property
    def in_flight(self) -> int:
        """Batches to launch before the output of the first is fetched, 1 or more; known after `load`."""


@dataclass(frozen=True, slots=True)
class ComparableOutput:
    """A task's numbers, float32 `[n, width]`, one line per row or token.

    `labels`: scores of labels, of which the largest wins; `independent`: scores of labels that
    do not exclude each other; `values`: quantities (a regression); `vectors`: embeddings.
    """

    kind: Literal["labels", "independent", "values", "vectors"]
    numbers: np.ndarray
    quiet: int | None = None
    """Index of the label for "no entity", `O`."""


@runtime_checkable
class SupportsComparison(Protocol):
    """Optional method of a task whose precision can be checked against float32."""

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """The output of `forward` for the batch, as numbers that can be compared."""
