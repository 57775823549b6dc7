"""A language model's choice, beside a loop over sorted, padded batches that reads the same logits.

The `decision` pipeline of transformers 5.23 runs one prompt at a time, in words of its own; the loop
with batches of one does the same work for one prompt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.contest import Contest, of_sizes
from benchmarks.search.models import language_model
from benchmarks.side_by_side.fan_out import LIMIT, loaded, scored, window_of
from workers.tasks.choosing.choice import Choice

CHOICES = ("politics", "sports", "business", "science", "health")
PROMPT = (
    "read the text below with care. it was written by a person on a public site, and it may be "
    "short, rude, funny or wrong. say which of these topics it is about: politics, sports, "
    "business, science or health. if it is about none of them, say which is nearest. text: {text} "
    "topic:"
)


def choosing(model: Path, texts: Sequence[str], scratch: Path) -> Contest:
    """Five choices of one token each, behind a prompt that all rows begin with."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = language_model(model, scratch, 2 * LIMIT)
    short = [text[:LIMIT] for text in texts]
    ours = loaded(Choice(), folder, limit=2 * LIMIT, choices=json.dumps(CHOICES), prompt=PROMPT)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    wanted = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in CHOICES]
    prompts = [PROMPT.format(text=text) for text in short]
    rows = window_of(prompts)  # as the reader makes them of --prompt

    def loop(size: int) -> Any:
        return _loop(theirs, tokenizer, prompts, np.concatenate(wanted), size)

    def choose() -> Any:
        return scored(ours, rows)["scores"]

    places = {word: at for at, word in enumerate(CHOICES)}
    found = np.zeros((len(short), len(CHOICES)))
    for row, scores in enumerate(choose().to_pylist()):
        for it in scores:
            found[row, places[it["label"]]] = it["score"]
    apart = float(np.abs(found - loop(8)).max())
    return Contest(len(short), {"headrace": choose} | of_sizes("padded loop", loop), apart)


def _loop(model: Any, tokenizer: Any, prompts: Sequence[str], ids: np.ndarray, size: int) -> Any:
    import torch

    encoded = tokenizer(list(prompts))["input_ids"]
    order = sorted(range(len(prompts)), key=lambda at: -len(encoded[at]))
    found = np.zeros((len(prompts), len(ids)))
    for start in range(0, len(order), size):
        some = order[start : start + size]
        inputs = tokenizer.pad({"input_ids": [encoded[at] for at in some]}, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
            found[some] = logits[:, torch.from_numpy(ids)].softmax(-1).numpy()
    return found
