"""Labelled rows and a host for a training in one process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.storage.local import LocalStore
from schemas.errors import Stopped
from schemas.records.text_hash import text_hash
from schemas.records.training import SPLIT, TRAIN, VALIDATION, TrainingSpec
from workers.pipeline.rows import NULL_TEXT, Window
from workers.training.checkpoints import CheckpointBook
from workers.training.loop_watch import Host
from workers.training.rows.labelled_rows import LabelledRows, read_rows

GOOD, BAD = ("good", "fine", "hello"), ("bad", "short", "cut")
REST = ("the", "weather", "is", "today", "and", "film", "very", "long", "paris")


def made_texts(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts and labels that a word of each text decides."""
    chance = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        label = chance.choice(["negative", "positive"])
        words = [chance.choice(REST) for _ in range(chance.randint(2, 30))]
        words.insert(
            chance.randrange(len(words)), chance.choice(GOOD if label == "positive" else BAD)
        )
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def window_of(texts: list[str | None], columns: dict[str, Any]) -> Window:
    carried = pa.record_batch({"id": list(range(len(texts))), **columns})
    found = [NULL_TEXT if text is None else text for text in texts]
    hashes = [None if text is None else text_hash(text.encode()) for text in texts]
    return Window(0, carried, found, hashes)


def made_rows(tokenizer: Any, spec: TrainingSpec, count: int = 120) -> LabelledRows:
    texts, labels = made_texts(count)
    sides = [VALIDATION if i % 4 == 0 else TRAIN for i in range(count)]
    window = window_of([*texts], {"label": labels, SPLIT: sides})
    return read_rows([window], tokenizer, spec, SPLIT, lambda: None)


def made_spec(**changes: Any) -> TrainingSpec:
    given: dict[str, Any] = {
        "problem": "single_label", "label_column": "label", "labels": ("negative", "positive"),
        "epochs": 2, "learning_rate": 1e-3, "batch_tokens": 256,
    }  # fmt: skip
    return TrainingSpec(**given | changes)


class MadeHost:
    """A host whose process can be stopped or killed after a number of steps."""

    def __init__(self, folder: Path, attempt: str, stop_after: int | None = None) -> None:
        self.store = LocalStore(folder / "run")
        self.folder = folder / attempt
        self.folder.mkdir(parents=True)
        self.attempt = attempt
        self.scalars: list[tuple[int, dict[str, float]]] = []
        self.shown = 0
        self._stop_after, self.step = stop_after, 0

    def host(self, fault: Any = lambda step: None) -> Host:
        return Host(
            folder=self.folder, device="cpu", bf16=False,
            book=CheckpointBook(self.store, self.attempt, fault),
            stop_reason=self._reason, stop=self._stop, show=self._show,
            write_scalars=lambda step, numbers: self.scalars.append((step, dict(numbers))),
            seconds_left=lambda: 30.0,
        )  # fmt: skip

    def _reason(self) -> str | None:
        self.step += 1
        return "drain" if self._stop_after is not None and self.step >= self._stop_after else None

    def _stop(self, reason: str) -> None:
        raise Stopped(reason)

    def _show(self, progress: Any) -> None:
        self.shown = progress.step
