"""The plug-in: what a task must do for headrace to run it over a corpus.

A task has five verbs. `load`, `forward` run on the device's side; `encode`, `decode` run on the
CPU, on threads of their own, while the device is busy with another batch; `columns` names what
`decode` returns. Only `forward` may touch tensors. Everything else is NumPy and Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from schemas.records.engine import PACKED


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What `load` is given: everything that decides the answer, nothing else."""

    model_path: str
    """A local folder; the hub, `s3://` and the digest check are behind us by now."""
    device: str
    """`cpu` or `cuda:0`; the process sees its own device only."""
    dtype: str
    """`float32`, `bfloat16`, `float16` or `int8`, as the job resolved it."""
    max_length: int | None
    """Tokens a row may have, special tokens included; None: the model's own limit."""
    params: Mapping[str, Any]
    """The task's own options, e.g. `{"scores": true}` or `{"aggregation": "simple"}`."""
    trust_remote_code: bool = False
    allow_pickle: bool = False
    engine: str = PACKED
    """What runs the model, by its name in `workers.engines.catalog`; a task may bring its own way."""


@dataclass(frozen=True, slots=True)
class Encodings:
    """Rows as token ids, flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    `ids` and `type_ids` are int32 `[tokens]`, `offsets` int64 `[rows + 1]`, `truncated` bool
    `[rows]`. `extra` is whatever `decode` needs for a row (texts, character offsets), one each.
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray
    type_ids: np.ndarray | None = None
    extra: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens a row, int64 `[rows]`."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> Encodings:
        """The given rows, in the given order (int64 `[k]` positions)."""
        lengths = self.lengths[rows]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        # one gather for the whole batch: position in the flat array, row by row
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
        """Bring tokenizer and model to the device; called once, before anything else.

        Raises:
            ModelError: the folder has no such model, or no head for this task.
        """

    def columns(self) -> list[pa.Field]:
        """The task's own output columns, all nullable; valid after `load`."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """Token ids of the texts, special tokens added, truncated to max-length; thread-safe."""

    def forward(self, batch: Encodings) -> Any:
        """The model's output for the batch, back on the host: something `decode` understands.

        Rows arrive longest first. May raise the device's own out-of-memory error: the caller
        halves the batch (see `is_out_of_memory`).
        """

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        """Columns as `columns` names them, one row for each row of the batch, in its order."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True when a smaller batch could help."""

    def default_batch_tokens(self) -> int:
        """The token budget of a batch on this device where nobody set one."""


@runtime_checkable
class SupportsBudgetSearch(Protocol):
    """What a task may have beside its verbs: a budget found by trying, and kept for the next start."""

    def probe_batch(self, tokens: int, row_tokens: int | None) -> Encodings:
        """A batch of about so many tokens, rows of `row_tokens` each, to be run and forgotten.

        None: rows as long as a row may be.
        """

    def budget_facts(self) -> dict[str, str]:
        """What the best budget depends on beside the job's model: device, versions, the way used."""


@runtime_checkable
class SupportsRowCosts(Protocol):
    """What a task may have beside its verbs where a row costs more than its tokens."""

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of a batch's budget that each row takes, int64 `[rows]`; else its own tokens."""


@runtime_checkable
class SupportsRowChecks(Protocol):
    """What a task may have beside its verbs where `decode` does not show all of the numbers.

    Without it, NaN and infinity are looked for in every column of floats that `decode` gives.
    """

    def not_finite(self, batch: Encodings, output: Any) -> np.ndarray:
        """True for each row whose numbers hold NaN or infinity, bool `[rows]`: it has no answer."""


@runtime_checkable
class SupportsAsyncForward(Protocol):
    """What a task on a device with a queue of its own may have beside its verbs."""

    def launch(self, batch: Encodings) -> Callable[[], Any]:
        """Start what `forward` does, and return at once; the result waits, and gives its output.

        What does not fit in memory says so here, any other error may come with the waiting.
        """

    def is_device_lost(self, error: BaseException) -> bool:
        """True when the device computes nothing more for this process, whatever it is given."""


@dataclass(frozen=True, slots=True)
class ComparableOutput:
    """A task's numbers, float32 `[n, width]`, one line for each row or token.

    `labels`: scores of labels of which the largest wins; `independent`: scores of labels that
    stand by themselves; `values`: quantities (a regression); `vectors`: embeddings.
    """

    kind: Literal["labels", "independent", "values", "vectors"]
    numbers: np.ndarray
    quiet: int | None = None
    """The label that says that there is nothing, `O`."""


@runtime_checkable
class SupportsComparison(Protocol):
    """A further verb, for tasks whose precision can be checked against float32."""

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """What `forward` gave for the batch, as numbers to be compared."""
