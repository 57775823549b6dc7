"""One loaded model that answers texts as a job does: the same tokenizer, engine and checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.settings import Settings, cache_folder
from headrace.storage.open import open_store
from headrace.tasks.catalog import BUILT_IN, task_spec
from headrace.tasks.contract import Encodings, LoadRequest, Task
from headrace.tasks.registry import load_task
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import ConfigError
from schemas.records.engine import PACKED
from schemas.records.model_version import ModelVersion
from schemas.versions import versions
from workers.batching.budget_cache import BudgetCache
from workers.batching.packing import Budget
from workers.devices.device import device_inside, in_flight_of, resolve_dtype
from workers.models.fetch import local_model
from workers.online.joining import joined
from workers.pipeline.assemble import token_counts
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats, RowError, Window
from workers.pipeline.tokenize import encode_rows

NO_COLUMNS = pa.RecordBatch.from_arrays([], names=[])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's texts as token ids, ready for the device."""

    texts: int
    encodings: Encodings | None
    rows: np.ndarray
    """Which text each row of the encodings is, int64 `[rows]`."""
    faults: Mapping[int, RowError]
    """Texts that could not be encoded."""
    cost: int
    """Tokens of the batch's budget."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one text: its columns by name, or an error."""

    values: Mapping[str, Any]
    n_tokens: int = 0
    truncated: bool = False
    fault: RowError | None = None


class OnlineModel:
    """A task on a device. `prepare` is thread-safe; `compute` is for the device's one thread."""

    def __init__(self, loaded: LoadedTask, name: str, task: str) -> None:
        self._loaded = loaded
        self.name = name
        self.task = task

    @property
    def budget_tokens(self) -> int:
        """Tokens that a batch may have."""
        return self._loaded.budget.tokens

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """The texts as token ids; a text that cannot be encoded is an error of its own."""
        window = Window(0, NO_COLUMNS, texts, [None] * len(texts))
        encodings, bad = encode_rows(window, range(len(texts)), self._loaded.task)
        rows = np.array([i for i in range(len(texts)) if i not in bad], dtype=np.int64)
        cost = 0 if encodings is None else int(self._loaded.costs(encodings).sum())
        return Prepared(len(texts), encodings, rows, bad, cost)

    def compute(self, requests: Sequence[Prepared]) -> list[list[Answer]]:
        """The answers of each request, computed together.

        Raises:
            DeviceLost: the device accepts no more work from this process.
        """
        pieces = [r.encodings for r in requests if r.encodings is not None]
        encodings = joined(pieces) if pieces else None
        n_tokens, truncated = token_counts(encodings)
        rows = np.arange(len(n_tokens))
        found = score(encodings, rows, self._loaded, _Free(), observe_nothing, ChunkStats())
        values = found.values.to_pylist()
        answers: list[list[Answer]] = []
        at = 0
        for request in requests:
            count = len(request.rows)
            own: dict[int, Answer] = {
                i: Answer({}, fault=fault) for i, fault in request.faults.items()
            }
            for row, place in zip(request.rows.tolist(), range(at, at + count), strict=True):
                own[row] = Answer(
                    values[place],
                    int(n_tokens[place]),
                    bool(truncated[place]),
                    found.faults.get(place),
                )
            at += count
            answers.append([own[i] for i in range(request.texts)])
        return answers


def load_online(settings: Settings, version: ModelVersion | None = None) -> OnlineModel:
    """The model of the settings on this process's device; of `version`, where an address names it.

    Raises:
        ConfigError: no model was named. ModelError: it cannot be loaded.
    """
    if settings.model is None:
        raise ConfigError("name the model: --model")
    spec = task_spec(settings.task)
    if spec.generates:
        raise ConfigError(f"headrace-worker serve does not answer {settings.task}: submit a job")
    uri, revision = settings.model, settings.revision
    if version is not None:
        uri, revision = version.model.uri, version.model.revision or None
    store_of = partial(open_store, settings=settings)
    folder = local_model(
        uri, revision, settings, store_of,
        allow_pickle=settings.allow_pickle, trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip
    own = {p.name: getattr(settings, p.name) for p in spec.params} if spec.name in BUILT_IN else {}
    params = spec.resolve(own | dict(settings.task_params))
    dtype = resolve_dtype(settings.dtype, settings.device)
    task = load_task(settings.task, params=params)
    task.load(
        LoadRequest(
            model_path=str(folder), device=device_inside(settings.device), dtype=dtype,
            max_length=settings.max_length, params=params, engine=spec.engine or PACKED,
            trust_remote_code=settings.trust_remote_code, allow_pickle=settings.allow_pickle,
        )
    )  # fmt: skip
    facts = {
        "task": settings.task, "params": json.dumps(params, sort_keys=True),
        "model": revision or uri, "dtype": dtype,
        **{name: versions().get(name, "") for name in ("headrace", "torch", "transformers")},
    }  # fmt: skip
    return OnlineModel(_with_budget(task, settings, facts), settings.model, settings.task)


def _with_budget(task: Task, settings: Settings, facts: Mapping[str, str]) -> LoadedTask:
    device = device_inside(settings.device)
    budgets = BudgetCache(task, device, facts, cache_folder() / "budgets")
    return LoadedTask(
        task,
        Budget(budgets.start(settings.batch_tokens).tokens),
        bool(getattr(task, "padded", True)),
        settings.device,
        on_halved=budgets.learn,
        in_flight=in_flight_of(settings.device),
    )


class _Free:
    """No lease and no drain stop a request."""

    def check(self) -> None: ...
    def forwarding(self, rows: Sequence[int]) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...
