"""A language model's choice, beside two that read the same logits.

They are a loop over sorted, padded batches, and the `decision` pipeline of transformers 5.23, which
runs one prompt at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
    decide = _decisions(folder, short)
    apart = max(float(np.abs(found - peer).max()) for peer in (loop(8), decide()))
    peers = of_sizes("padded loop", loop) | {"decision pipeline": decide}
    return Contest(len(short), {"headrace": choose} | peers, apart)


def _decisions(folder: Path, texts: Sequence[str]) -> Callable[[], np.ndarray]:
    """What computes all scores with the pipeline, `[rows, choices]`."""
    from transformers import pipeline
    from transformers.decision import DecisionConfig

    # a template is tokenized without the tokens that a BERT's tokenizer adds
    template = "[CLS]" + PROMPT.replace("{text}", "{{ state }}") + "[SEP]"
    config = DecisionConfig(labels={"choice": list(CHOICES)}, chat_template=template)
    decide = pipeline("decision", model=str(folder), device="cpu", decision_config=config)
    criteria = {word: word for word in CHOICES}
    topic = {"type": "choice", "instructions": "topic", "criteria": criteria}
    requests = [{"state": text, "questions": {"topic": topic}} for text in texts]

    def run() -> np.ndarray:
        answers = [it["topic"]["probabilities"] for it in decide(requests)]
        return np.array([[answer[word] for word in CHOICES] for answer in answers])

    return run


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
