"""Ours beside the model itself, row by row, each row in a model that has seen no other."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.families.texts import texts
from benchmarks.families.tiny_configs import POSITIONS
from benchmarks.families.tiny_model import AUTO, NotMade, make
from headrace.storage.local import LocalStore
from headrace.tasks.contract import Encodings, LoadRequest
from headrace.tasks.registry import load_task
from producers.models.reference import resolve_model
from schemas.errors import HeadraceError
from workers.batching.packing import pack
from workers.tasks.feature_extraction import ENCODERS

# Chosen: 100 times what rounding came to with any family, and far under what a wrong mask gives.
TOLERANCE = 1e-3
BUDGETS = (64, 2048)
"""Tokens of a batch: single rows and pairs, and large ones."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a family with a task."""

    family: str
    task: str
    way: str = ""
    """`packed`, `padded`, `equal`, `alone`; empty where nothing ran."""
    difference: float = 0.0
    """The largest between ours and the model's own numbers, over the size of these."""
    refused: str = ""
    own_tokenizer: bool = False
    max_length: int = 0
    seconds: float = 0.0
    not_made: str = ""
    """Why no model of text could be made; such a family is not counted."""

    @property
    def is_wrong(self) -> bool:
        return bool(self.way) and not self.difference <= TOLERANCE


def compare(family: str, task: str, rows: Sequence[str] | None = None, **changes: Any) -> Outcome:
    """Make a tiny model of the family, score the rows by headrace and by transformers."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            model = make(family, task, Path(scratch), **changes)
        except NotMade as why:
            return Outcome(family, task, not_made=str(why))
        facts: dict[str, Any] = {"own_tokenizer": model.own_tokenizer}
        try:
            facts |= _both(task, model.folder, texts() if rows is None else list(rows))
            _submit(task, model.folder)
        except HeadraceError as error:
            facts["refused"] = str(error).replace(scratch, "FOLDER")
            # what transformers cannot run either is no model of text, or was made wrongly here
            if "does not run on text alone" in facts["refused"] and not _runs(task, model.folder):
                facts["not_made"] = facts.pop("refused")
        except NotMade as why:
            facts["not_made"] = str(why)
        return Outcome(family, task, seconds=round(time.monotonic() - started, 1), **facts)


def _submit(name: str, folder: Path) -> None:
    """What a job's submission looks at: what a worker runs must not be refused there."""
    resolve_model(str(folder), None, name, LocalStore, max_length=POSITIONS // 2, params={})


def _both(name: str, folder: Path, rows: Sequence[str]) -> dict[str, Any]:
    task = load_task(name)
    _load(task, folder)
    found = task.encode(rows)
    answers = [_alone(name, folder, task, t, found.take(np.array([i]))) for i, t in enumerate(rows)]
    taken = np.array([i for i, answer in enumerate(answers) if not isinstance(answer, str)])
    if not len(taken):
        raise NotMade(f"does not run on text alone: {answers[0]}")
    # some models fail on rows of one or two tokens
    found, wanted = found.take(taken), [answers[i] for i in taken]
    size = max(1.0, float(np.sqrt(np.mean(np.square(np.concatenate(wanted))))))
    worst = 0.0
    for order in (np.arange(len(taken)), np.argsort(found.lengths), np.argsort(-found.lengths)):
        for budget in BUDGETS:
            worst = max(worst, _difference(task, found, order, budget, wanted))
    return {
        "way": task.engine.runner.mode,
        "difference": worst / size,
        "max_length": task.max_length,
    }


def _load(task: Any, folder: Path) -> None:
    """With the model's own limit; where it states none, with ours."""
    asked = LoadRequest(str(folder), "cpu", "float32", None, {})
    try:
        task.load(asked)
    except HeadraceError as error:
        if "--max-length" not in str(error):
            raise
        task.load(replace(asked, max_length=POSITIONS))


def _forward(task: Any, batch: Encodings) -> np.ndarray:
    """As a chunk is scored: a batch that fails is cut, in the end into single rows."""
    try:
        return np.asarray(task.forward(batch))
    except Exception:
        if len(batch) == 1:
            raise
        singly = [task.forward(batch.take(np.array([i]))) for i in range(len(batch))]
        return np.concatenate(singly)


def _difference(
    task: Any, found: Encodings, order: np.ndarray, budget: int, wanted: Sequence[np.ndarray]
) -> float:
    """The largest over all rows, run in batches of this budget, in this order."""
    worst = 0.0
    for batch in pack(found.lengths[order], budget, padded=task.padded):
        taken = found.take(order[batch])
        numbers = _forward(task, taken)
        per_row = len(numbers) == len(taken) and task.output != "tokens"
        for at, row in enumerate(order[batch]):
            ours = numbers[at] if per_row else numbers[taken.offsets[at] : taken.offsets[at + 1]]
            apart = np.abs(ours - wanted[row]).max(initial=0.0)
            worst = max(worst, float(apart) if np.isfinite(apart) else float("inf"))
    return worst


_MODELS: dict[str, tuple[Any, Any]] = {}


def _alone(name: str, folder: Path, task: Any, text: str, ours: Encodings) -> Any:
    """What transformers gives for one row: its tokenizer's own call, a model fresh from its folder.

    The words of its error, where it takes no such row.
    """
    import torch

    model, tokenizer = _reference(name, folder)
    inputs = tokenizer(text, truncation=True, max_length=task.max_length, return_tensors="pt")
    if inputs["input_ids"].numel() == 0:  # no model takes a row of nothing: what ours puts there
        inputs = {"input_ids": torch.from_numpy(ours.ids[None].astype(np.int64))}
    fresh = copy.deepcopy(model)
    try:
        with torch.inference_mode():
            out = fresh(**inputs)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if name != "feature-extraction":
        return np.asarray(out.logits[0].float().numpy())
    return np.asarray(out.last_hidden_state[0].float().mean(0).numpy())


def _reference(name: str, folder: Path) -> tuple[Any, Any]:
    """transformers' own model and tokenizer of the folder."""
    import transformers

    key = f"{name} {folder}"
    if key not in _MODELS:
        _MODELS.clear()
        kind = transformers.AutoConfig.from_pretrained(folder).model_type
        encoder = ENCODERS.get(kind) if name == "feature-extraction" else None
        auto = getattr(transformers, encoder or AUTO[name])
        _MODELS[key] = (
            auto.from_pretrained(folder).eval(),
            transformers.AutoTokenizer.from_pretrained(folder),
        )
    return _MODELS[key]


def _runs(name: str, folder: Path) -> bool:
    """Whether transformers itself runs the model on a text."""
    import torch

    model, tokenizer = _reference(name, folder)
    try:
        with torch.inference_mode():
            model(**tokenizer("the weather is fine today, is it not", return_tensors="pt"))
    except Exception:
        return False
    return True


def as_line(outcome: Outcome) -> dict[str, Any]:
    """For the file that a run goes on from."""
    return asdict(outcome)
