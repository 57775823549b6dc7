"""Ray Data on the job: a corpus of many files, as many actors as cores, one thread each.

Nothing here imports headrace. `seconds` begins when every actor has its model, and `startup_s` is
what came before: both are given, since a job of an hour hides what a job of a minute does not.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from benchmarks.side_by_side.job import MAX_LENGTH, Job, Outcome

BLOCKS_AN_ACTOR = 8  # as many as headrace makes chunks a worker; where an actor sorts, it sorts one


class _Actor:
    """A model of its own, on one core."""

    def __init__(self, job: Job, size: int, cores: tuple[int, ...]) -> None:
        import torch

        from benchmarks.fleet.pinning import move

        if cores:
            move(os.getpid(), cores)
        torch.set_num_threads(1)
        self._job, self._size = job, size
        self._score = self._sorted(job) if size == 0 else self._pipeline(job, size)

    def _pipeline(self, job: Job, size: int) -> Any:
        from transformers import pipeline

        classify = pipeline("text-classification", model=job.model, device=job.device)
        return lambda texts: [
            (f["label"], f["score"])
            for f in classify(texts, batch_size=size, truncation=True, max_length=MAX_LENGTH)
        ]

    def _sorted(self, job: Job) -> Any:
        from benchmarks.side_by_side.peers import sorted_batches, tokenizer_of, torch_forward

        forward, tokenizer = torch_forward(job), tokenizer_of(job)

        def score(texts: list[str]) -> list[tuple[str, float]]:
            ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
            found: list[tuple[str, float]] = [("", 0.0)] * len(texts)
            for rows, padded in sorted_batches(ids, job.budget):
                lengths = np.array([[len(ids[r])] for r in rows])
                logits = forward(padded, (np.arange(padded.shape[1]) < lengths).astype(np.int64))
                shares = np.exp(logits - logits.max(1, keepdims=True))
                shares /= shares.sum(1, keepdims=True)
                for row, share in zip(rows, shares, strict=True):
                    found[row] = (f"LABEL_{share.argmax()}", float(share.max()))
            return found

        return score

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        began = time.time()
        found = self._score([str(text) for text in batch["text"]])
        return {
            "id": batch["id"], "label": [f[0] for f in found],
            "score": np.array([f[1] for f in found]), "began_s": np.full(len(found), began),
        }  # fmt: skip


def ray_data(job: Job, size: int) -> Outcome:
    """`size`: of the pipeline's batches; 0: each actor sorts and pads by a token budget."""
    import pyarrow.dataset as ds
    import ray

    workers, rest = (_cores(f"HEADRACE_BENCH_{name}") for name in ("WORKER_CORES", "REST_CORES"))
    if rest:
        os.sched_setaffinity(0, rest)
    began = time.time()
    ray.init(num_cpus=job.threads + 1, include_dashboard=False, log_to_driver=False)
    output = f"{job.output}.ray"
    # Small files are read by one task that is fused with the first actor's, and an actor takes four
    # tasks ahead, if one lets Ray Data: then the first actor has all there is, and the others idle.
    blocks = BLOCKS_AN_ACTOR * job.threads
    data = ray.data.read_parquet(job.parts, columns=["id", "text"]).repartition(blocks)
    data.map_batches(
        _Actor, fn_constructor_args=(job, size, workers), num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=job.threads, max_tasks_in_flight_per_actor=1),
        batch_size=None if size == 0 else max(64, size),
    ).write_parquet(output)  # fmt: skip
    ended = time.time()
    written = ds.dataset(output, format="parquet").to_table(columns=["began_s"])["began_s"]
    first = min(written.to_pylist())
    ray.shutdown()
    return Outcome(ended - first, len(written), startup_s=first - began)


def _cores(name: str) -> tuple[int, ...]:
    return tuple(int(c) for c in os.environ.get(name, "").split(",") if c)
