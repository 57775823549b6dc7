"""The peers: each the best plain use of its library. Nothing here imports headrace.

A contestant loads, runs a few rows to warm up, and then times the job from file to file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.job import MAX_LENGTH, Job, Outcome

WARM = ["a few words", "some more words to warm up with, and then a few again"] * 4


def _tokenizer(job: Job) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job.model)


def _lengths(job: Job, texts: list[str]) -> list[int]:
    found = _tokenizer(job)(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return [len(ids) for ids in found]


def _dtype(job: Job) -> Any:
    import torch

    return getattr(torch, job.dtype)


def _in_order(lengths: list[int], size: int) -> int:
    """Tokens computed when neighbours are padded to their longest."""
    cut = range(0, len(lengths), size)
    return sum(max(lengths[i : i + size]) * len(lengths[i : i + size]) for i in cut)


def transformers_pipeline(job: Job, size: int) -> Outcome:
    from transformers import pipeline

    classify = pipeline(
        "text-classification", model=job.model, device=job.device, dtype=_dtype(job)
    )
    options = {"batch_size": size, "truncation": True, "max_length": MAX_LENGTH}
    classify(WARM, **options)
    start = time.perf_counter()
    ids, texts = job.read()
    found = classify(texts, **options)
    job.write(id=ids, label=[f["label"] for f in found], score=[f["score"] for f in found])
    seconds = time.perf_counter() - start
    lengths = _lengths(job, texts)
    return Outcome(seconds, len(ids), sum(lengths), _in_order(lengths, size))


def sentence_transformers(job: Job, size: int) -> Outcome:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        job.model, device=job.device, model_kwargs={"dtype": _dtype(job)}, local_files_only=True
    )
    model.max_seq_length = MAX_LENGTH
    model.encode(WARM, batch_size=size, show_progress_bar=False)
    start = time.perf_counter()
    ids, texts = job.read()
    found = model.encode(texts, batch_size=size, show_progress_bar=False)
    job.write(id=ids, embedding=list(np.asarray(found, dtype=np.float32)))
    seconds = time.perf_counter() - start
    lengths = _lengths(job, texts)
    by_letters = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # as it sorts
    return Outcome(
        seconds, len(ids), sum(lengths), _in_order([lengths[i] for i in by_letters], size)
    )


def _sorted_batches(ids: list[list[int]], budget: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Rows longest first, padded, under a budget: (positions, ids `[rows, width]`)."""
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    at = 0
    while at < len(order):
        width = len(ids[order[at]])
        rows = order[at : at + max(1, budget // width)]
        padded = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            padded[i, : len(ids[row])] = ids[row]
        yield rows, padded
        at += len(rows)


def _sorted_loop(job: Job, forward: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Outcome:
    tokenizer = _tokenizer(job)
    forward(np.full((4, 16), 5), np.ones((4, 16), dtype=np.int64))
    start = time.perf_counter()
    ids, texts = job.read()
    tokens = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    scores, labels, computed = np.zeros(len(ids)), np.zeros(len(ids), dtype=np.int64), 0
    for rows, padded in _sorted_batches(tokens, job.budget):
        mask = np.arange(padded.shape[1]) < np.array([[len(tokens[r])] for r in rows])
        logits = forward(padded, mask.astype(np.int64))
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        labels[rows], scores[rows] = shares.argmax(1), shares.max(1)
        computed += padded.size
    job.write(id=ids, label=labels, score=scores)
    seconds = time.perf_counter() - start
    return Outcome(seconds, len(ids), sum(map(len, tokens)), computed)


def sorted_loop(job: Job) -> Outcome:
    import torch
    from transformers import AutoModelForSequenceClassification as Auto

    model = Auto.from_pretrained(job.model, dtype=_dtype(job)).to(job.device).eval()

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = (torch.from_numpy(x).to(job.device) for x in (ids, mask))
            return np.asarray(model(*inputs).logits.float().cpu().numpy())

    return _sorted_loop(job, forward)


def onnx_runtime(job: Job) -> Outcome:
    """fp32, all of its graph optimizations; exported before the clock starts."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        _exported(job), options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
        if job.device != "cpu" else ["CPUExecutionProvider"],
    )  # fmt: skip
    first, second = (i.name for i in session.get_inputs())
    return _sorted_loop(
        job, lambda ids, mask: np.asarray(session.run(None, {first: ids, second: mask})[0])
    )


def _exported(job: Job) -> str:
    import torch
    from transformers import AutoModelForSequenceClassification as Auto

    path = Path(job.output).parent / "model.onnx"
    if not path.exists():
        model = Auto.from_pretrained(job.model).eval()
        example = torch.ones((2, 16), dtype=torch.int64)
        axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("width", max=MAX_LENGTH)}
        torch.onnx.export(
            model, (example, example), str(path), input_names=["input_ids", "attention_mask"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes}, dynamo=True,
        )  # fmt: skip
    return str(path)


class _RayActor:
    """A pipeline of its own in each actor, on one core."""

    def __init__(self, job: Job) -> None:
        import torch
        from transformers import pipeline

        torch.set_num_threads(1)
        self._classify = pipeline("text-classification", model=job.model, device=job.device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        found = self._classify(list(batch["text"]), batch_size=1, truncation=True,
                               max_length=MAX_LENGTH)  # fmt: skip
        scores = np.array([f["score"] for f in found])
        return {"id": batch["id"], "label": [f["label"] for f in found], "score": scores}


def ray_data(job: Job) -> Outcome:
    """Starting its actors is in the time: they are a part of the job."""
    import ray

    rows = len(job.read()[0])
    ray.init(num_cpus=job.threads, include_dashboard=False, log_to_driver=False)
    start = time.perf_counter()
    data = ray.data.read_parquet(job.corpus, columns=["id", "text"]).repartition(4 * job.threads)
    actors = ray.data.ActorPoolStrategy(size=job.threads)
    data.map_batches(
        _RayActor, fn_constructor_args=(job,), compute=actors, num_cpus=1, batch_size=64
    ).write_parquet(f"{job.output}.ray")
    return Outcome(time.perf_counter() - start, rows)
