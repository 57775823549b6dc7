"""A whole job in one process: the real planner, the real pipeline with the fake task, no queue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.formats.opener import InputOpener
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings, load_settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tasks.contract import LoadRequest, Task
from producers.capacity.device_hint import DeviceHint
from producers.records.manifest import build_manifest, parts_of, receipt_of_part
from producers.submission.create import create_job
from producers.submission.prepare import PreparedJob, prepare
from schemas.names import output_layout
from schemas.records.job import Job
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.read import WindowSizes, read_windows
from workers.pipeline.run import run_chunk, start_chunk
from workers.pipeline.write import PartSink
from workers.tasks.fake import FakeTask

CPU = DeviceHint()
NOW_S = 1_790_000_000.0


def write_input(path: Path, texts: Sequence[Any], *, group_rows: int = 100, **columns: Any) -> Path:
    """A Parquet file with these texts, an `id` for each, and any other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = columns.pop("id", [f"{path.stem}-{i}" for i in range(len(texts))])
    text = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
    pq.write_table(pa.table({"id": ids, "text": text, **columns}), path, row_group_size=group_rows)
    return path


def fake_settings(**flags: Any) -> Settings:
    return load_settings(**{"task": "fake", **flags})


def prepare_small(inputs: Sequence[Any], output: Any, settings: Settings) -> PreparedJob:
    return prepare(settings, [str(i) for i in inputs], str(output), device_hint=CPU, workers_hint=2)


def submit(inputs: Sequence[Any], output: Any, **flags: Any) -> tuple[Store, Job]:
    settings = fake_settings(**flags)
    prepared = prepare_small(inputs, output, settings)
    store = open_store(prepared.output, settings)
    return store, create_job(store, prepared, now_s=NOW_S)[0]


class _Observe:
    @contextmanager
    def __call__(self, stage: str, **counters: float) -> Iterator[Any]:
        yield self

    def add(self, **counters: float) -> None: ...


class _Control:
    def check(self) -> None: ...
    def forwarding(self, rows: Sequence[int]) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...


def score(store: Store, job: Job, skip: Sequence[int] = (), task: Task | None = None) -> None:
    """Commit a part for every chunk but those to skip; `task` is loaded, else the fake one."""
    if task is None:
        task = FakeTask()
        task.load(LoadRequest("", "cpu", "float32", job.spec.max_length, job.spec.params))
    engine = LoadedTask(task, Budget(4096), padded=False)
    observe = _Observe()
    plan = PlanTable.load(store)
    open_file = InputOpener(partial(open_store, settings=fake_settings()))
    for chunk in plan:
        if chunk.number in skip:
            continue
        sink = PartSink(store, job, chunk, "a" * 16)
        read = open_file.unchanged
        source = partial(read_windows, read, chunk, job.spec, observe, plan.types, WindowSizes(64))
        started = start_chunk(source, task, observe, _Control())
        stats = run_chunk(started, engine, sink)
        sink.commit(stats, {})


def finish(store: Store, job: Job) -> None:
    """Manifest and `_SUCCESS`, as the controller writes them."""
    receipts = [receipt_of_part(store, job, chunk) for chunk in parts_of(store)]
    manifest = build_manifest(job, receipts, [], finished_s=NOW_S, versions={}, stopped=None)
    data = manifest.model_dump_json(indent=1).encode()
    store.replace(output_layout.MANIFEST, data)
    if manifest.state == "finished":
        digest = hashlib.sha256(data).hexdigest()
        mark = {"job": job.id, "manifest_sha256": digest}
        store.create(output_layout.SUCCESS, json.dumps(mark).encode())
