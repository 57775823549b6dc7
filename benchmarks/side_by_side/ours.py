"""headrace's own engine on the job, and what bounds it: products, tokenizer, Parquet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.gpu.device_time import DeviceClock, forget_peak, unobserved
from benchmarks.side_by_side.job import (
    MAX_LENGTH,
    Job,
    Outcome,
    first_only_flops,
    layer_shapes,
    model_flops,
    peak_mb,
    read_config,
)
from headrace.settings import cache_folder
from headrace.tasks.contract import LoadRequest
from headrace.tasks.registry import load_task
from workers.batching.budget_cache import BudgetCache
from workers.batching.packing import Budget
from workers.devices.device import CPU, in_flight_of, set_threads
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.read import (
    FIRST_ROWS,
    WINDOW_ROWS,
    cut,
)
from workers.pipeline.rows import Window
from workers.pipeline.run import run_chunk, start_chunk


class _Quiet:
    """Control and observation that cost nothing: the fleet's share is measured by itself."""

    def check(self) -> None: ...
    def forwarding(self, rows: Any) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...


class _File:
    def __init__(self, path: str) -> None:
        self._path, self._writer = path, None

    def write(self, rows: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, rows.schema, compression="zstd")
        self._writer.write_batch(rows)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _windows(path: str, first_rows: int) -> Iterator[Window]:
    """As a worker reads them."""
    from schemas.records.text_hash import text_hash

    start = 0
    read = pq.ParquetFile(path).iter_batches(WINDOW_ROWS, columns=["id", "text"])
    for part in cut(read, first_rows, WINDOW_ROWS):
        texts = part.column("text").to_pylist()
        hashes = [text_hash(text.encode()) for text in texts]
        yield Window(start, part.select(["id"]), texts, hashes)
        start += len(texts)


def headrace(job: Job, task_name: str, dtype: str | None = None) -> Outcome:
    """The pipeline of one chunk, as a worker runs it, without queue, leases and store."""
    set_threads(job.device, job.threads)
    task, budget = _loaded(task_name, job.model, job.device, dtype or job.dtype)
    padded = bool(getattr(task, "padded", True))
    engine = LoadedTask(task, budget, padded, job.device, in_flight=in_flight_of(job.device))
    forget_peak(job.device)
    sink, clock = _File(job.output), DeviceClock(job.device)
    first = FIRST_ROWS if job.device != CPU else WINDOW_ROWS
    with clock.watching(task):
        start = time.perf_counter()
        source = partial(_windows, job.corpus, first)
        stats = run_chunk(start_chunk(source, task, unobserved, _Quiet()), engine, sink)
        sink.close()
        seconds, peak = time.perf_counter() - start, peak_mb()
    return Outcome(
        seconds, stats.rows, stats.tokens, stats.tokens + stats.padding_tokens,
        _done_flops(job, task), waiting_s=max(0.0, seconds - clock.busy_s()), peak_mb=peak,
        note=f"{engine.budget.tokens} tokens a batch",
    )  # fmt: skip


@lru_cache(maxsize=1)
def _loaded(name: str, model: str, device: str, dtype: str) -> tuple[Any, Budget]:
    """A task, warm, and its budget; the next job in this process may have the same."""
    task = load_task(name)
    task.load(LoadRequest(model, device, dtype, MAX_LENGTH, {}))
    found = _budget(task, Path(model), device, dtype)
    for words in (8, 24, 60, 110):  # short and long rows, warm
        task.forward(task.encode(["a few words to warm up with " * (words // 8)] * 8))
    if device != "cpu":  # and memory for a whole batch taken, as a worker's search has done
        for length in (24, None):
            task.forward(task.probe_batch(found.tokens, length))
    return task, found


def _budget(task: Any, model: Path, device: str, dtype: str) -> Budget:
    """On a GPU as a worker finds it, before the clock starts; on a CPU what it nearly always finds."""
    if device == "cpu":
        return Budget(task.default_batch_tokens())
    facts = {"task": type(task).__name__, "model": model.name, "dtype": dtype}
    return BudgetCache(task, device, facts, model.parent / "budgets").start(None)


def headrace_int8(job: Job) -> Outcome:
    return headrace(job, "text-classification", "int8")


def _done_flops(job: Job, task: Any) -> float:
    """Operations the device really did; 0 where the way is not known here."""
    runner = getattr(getattr(task, "engine", None), "runner", None)
    if getattr(runner, "mode", None) != "packed":
        return 0.0
    lengths = job.lengths() or np.diff(_tokens(job, job.read()[1]).offsets).tolist()
    count = first_only_flops if getattr(runner, "_one_only", False) else model_flops
    return count(read_config(job.model), lengths)


def _tokens(job: Job, texts: list[str]) -> Any:
    from transformers import AutoTokenizer

    from workers.models.tokenizer import Encoder

    return Encoder(AutoTokenizer.from_pretrained(job.model), MAX_LENGTH)(texts)


def tokenizer(job: Job) -> Outcome:
    from transformers import AutoTokenizer

    from workers.models.tokenizer import Encoder

    encode = Encoder(AutoTokenizer.from_pretrained(job.model), MAX_LENGTH)
    texts = job.read()[1]
    encode(texts[:8])
    start = time.perf_counter()
    tokens = int(encode(texts).offsets[-1])
    return Outcome(time.perf_counter() - start, len(texts), tokens, tokens)


def parquet(job: Job) -> Outcome:
    start = time.perf_counter()
    ids, texts = job.read()
    job.write(id=ids, label=["positive"] * len(ids), score=np.zeros(len(ids), dtype=np.float32))
    return Outcome(time.perf_counter() - start, len(texts))


def ceiling(job: Job) -> Outcome:
    """The matrix products of a layer, nothing else: the better of torch's own and the engine's."""
    import torch

    from workers.engines.packed.layer_choice import for_this_cpu
    from workers.engines.packed.linear import prepack_weights

    set_threads(job.device, job.threads)
    shapes, rows = layer_shapes(read_config(job.model)), job.budget
    layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in shapes)
    layers = layers.to(job.device, getattr(torch, job.dtype)).eval()
    widths = {wide for wide, _ in shapes}
    inputs = {n: torch.randn(rows, n).to(job.device, layers[0].weight.dtype) for n in widths}
    flops = 2.0 * rows * sum(a * b for a, b in shapes)
    best = _product_s(layers, inputs, job.device)
    if job.device == "cpu":
        prepack_weights(layers, choose=for_this_cpu(cache_folder() / "budgets"))
        best = min(best, _product_s(layers, inputs, job.device))
    return Outcome(best, rows, rows, rows, flops)


def _product_s(layers: Any, inputs: dict[int, Any], device: str) -> float:
    """The fastest of rounds that take some two seconds: the machine at its quietest."""
    import torch

    times = []
    # so that the host's way to a GPU and back, which a model does not take at each layer, is nothing
    repeats = 1 if device == "cpu" else 20
    with torch.inference_mode():
        until = time.perf_counter() + 2.0
        while time.perf_counter() < until:
            start = time.perf_counter()
            for layer in [*layers] * repeats:
                layer(inputs[layer.in_features])
            if device != "cpu":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / repeats)
    return min(times)
