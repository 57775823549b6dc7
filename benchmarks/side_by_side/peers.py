"""The peers on torch: each the best plain use of its library. Nothing here imports headrace.

A contestant loads, runs a few rows to warm up, and then times the job from file to file. Where the
next job in its process has the same model, that is loaded already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side.job import (
    MAX_LENGTH,
    Job,
    Outcome,
    batch_flops,
    model_flops,
    peak_mb,
    read_config,
)

STAND_IN = Path(__file__).parent / "flash_shim"
WARM = ["a few words", "some more words to warm up with, and then a few again"] * 4


def tokenizer_of(job: Job) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job.model)


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


def _in_order(
    job: Job, texts: Sequence[str], size: int, seconds: float, *, longest_first: bool = False
) -> Outcome:
    """The outcome of a run that padded neighbours, `size` at a time, to their longest."""
    peak = peak_mb()
    lengths = _lengths(job, texts)
    if longest_first:  # by letters, as sentence-transformers does
        lengths = [lengths[i] for i in sorted(range(len(texts)), key=lambda i: -len(texts[i]))]
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    return Outcome(
        seconds, len(texts), sum(lengths), sum(max(b) * len(b) for b in batches),
        batch_flops(read_config(job.model), batches), peak_mb=peak,
    )  # fmt: skip


def _lengths(job: Job, texts: Sequence[str]) -> list[int]:
    found = job.lengths()
    if found is not None:
        return found
    ids = tokenizer_of(job)(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return [len(row) for row in ids]


def transformers_pipeline(job: Job, size: int) -> Outcome:
    classify = _pipeline(job.model, job.device, job.dtype)
    options = {"batch_size": size, "truncation": True, "max_length": MAX_LENGTH}
    classify(WARM, **options)
    start = time.perf_counter()
    ids, texts = job.read()
    found = classify(texts, **options)
    job.write(id=ids, label=[f["label"] for f in found], score=[f["score"] for f in found])
    seconds = time.perf_counter() - start
    return _in_order(job, texts, size, seconds)


@lru_cache(maxsize=1)
def _pipeline(model: str, device: str, dtype: str) -> Any:
    from transformers import pipeline

    return pipeline("text-classification", model=model, device=device, dtype=_dtype(dtype))


def sentence_transformers(job: Job, size: int) -> Outcome:
    model, note = _sentence_model(job.model, job.device, job.dtype, size)
    start = time.perf_counter()
    ids, texts = job.read()
    found = model.encode(texts, batch_size=size, show_progress_bar=False)
    job.write(id=ids, embedding=list(np.asarray(found, dtype=np.float32)))
    seconds = time.perf_counter() - start
    outcome = _in_order(job, texts, size, seconds, longest_first=True)
    if model[0].can_flatten_inputs:
        needed = model_flops(read_config(job.model), _lengths(job, texts))
        outcome = replace(outcome, computed=outcome.tokens, flops=needed)
    return replace(outcome, note=note)


@lru_cache(maxsize=1)
def _sentence_model(name: str, device: str, dtype: str, size: int) -> tuple[Any, str]:
    """Warm; on a GPU with flash attention, where that can be had: then it packs without padding."""
    stands_in = device != "cpu" and _lend_flash_attention()
    from sentence_transformers import SentenceTransformer

    def load(**more: str) -> Any:
        options = {"dtype": _dtype(dtype), **more}
        model = SentenceTransformer(
            name, device=device, model_kwargs=options, local_files_only=True
        )
        model.max_seq_length = MAX_LENGTH
        model.encode(WARM, batch_size=size, show_progress_bar=False)
        return model

    if device == "cpu":
        return load(), ""
    try:
        model = load(attn_implementation="flash_attention_2")
    except (ImportError, ValueError, RuntimeError) as error:
        return load(), f"no flash attention: {type(error).__name__}: {str(error)[:100]}"
    kernel = ", torch's own kernel" if stands_in else ""
    padded = "" if model[0].can_flatten_inputs else ", padded"
    return model, f"flash attention 2{kernel}{padded}"


def _lend_flash_attention() -> bool:
    """True when torch's kernel replaces the package, which is not installed.

    To be called before transformers is imported: it looks for the package once.
    """
    if find_spec("flash_attn") is None:
        sys.path.append(str(STAND_IN))
    found = find_spec("flash_attn")
    return found is not None and str(STAND_IN) in str(found.origin)


def sorted_batches(
    ids: Sequence[Sequence[int]], budget: int
) -> Iterator[tuple[list[int], np.ndarray]]:
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


Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Ids and mask, `[rows, width]` each, to logits."""


def loop_over(job: Job, forward: Forward, budget: int) -> Outcome:
    """What a person with a fast forward pass writes: tokenize all, sort, pad, under a budget."""
    tokenizer = tokenizer_of(job)
    for width in (16, MAX_LENGTH):
        forward(np.full((4, width), 5), np.ones((4, width), dtype=np.int64))
    start = time.perf_counter()
    ids, texts = job.read()
    tokens = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    lengths = np.array([len(row) for row in tokens])
    scores, labels, batches = np.zeros(len(ids)), np.zeros(len(ids), dtype=np.int64), []
    for rows, padded in sorted_batches(tokens, budget):
        mask = np.arange(padded.shape[1]) < lengths[rows][:, None]
        logits = forward(padded, mask.astype(np.int64))
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        labels[rows], scores[rows] = shares.argmax(1), shares.max(1)
        batches.append([padded.shape[1]] * len(rows))
    job.write(id=ids, label=labels, score=scores)
    seconds, peak = time.perf_counter() - start, peak_mb()
    return Outcome(
        seconds, len(ids), int(lengths.sum()), sum(map(sum, batches)),
        batch_flops(read_config(job.model), batches), peak_mb=peak,
    )  # fmt: skip


def torch_forward(job: Job) -> Forward:
    import torch

    model = _classifier(job.model, job.device, job.dtype)

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = (torch.from_numpy(x).to(job.device) for x in (ids, mask))
            return np.asarray(model(*inputs).logits.float().cpu().numpy())

    return forward


@lru_cache(maxsize=1)
def _classifier(model: str, device: str, dtype: str) -> Any:
    from transformers import AutoModelForSequenceClassification as Auto

    return Auto.from_pretrained(model, dtype=_dtype(dtype)).to(device).eval()


def sorted_loop(job: Job, budget: int | None = None) -> Outcome:
    return loop_over(job, torch_forward(job), budget or job.budget)
