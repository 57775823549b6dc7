"""Decides between two steps of a training whether to evaluate, save or stop, and records the results."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.records.training import BEST_BY, Checkpoint, TrainingSpec
from workers.training.checkpoints import CheckpointBook
from workers.training.entity_scores import score_rows
from workers.training.rows.labelled_rows import LabelledRows
from workers.training.rows.token_batches import TokenBatches

CHECKPOINT_S = 60.0
"""Chosen: a kill loses at most this much work; saving takes one or two seconds."""
GAIN = 1e-4
"""Chosen: a smaller gain does not count for early stopping."""


@dataclass(slots=True)
class Progress:
    """Progress of a training; `best` is the best value of the deciding metric on the validation rows."""

    step: int
    of: int
    epoch: float
    loss: float | None = None
    best: float | None = None
    rows_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Host:
    """What the loop needs from its process."""

    folder: Path
    """A scratch folder of this attempt."""
    device: str
    bf16: bool
    book: CheckpointBook
    stop_reason: Callable[[], str | None]
    """Returns `drain`, `cancelled` or `paused`; None to continue."""
    stop: Callable[[str], None]
    """Ends the attempt for this reason; raises."""
    show: Callable[[Progress], None]
    write_scalars: Callable[[int, Mapping[str, float]], None]
    seconds_left: Callable[[], float]
    """Seconds left of the grace time, after a stop was requested."""
    clock: Callable[[], float] = time.monotonic
    """The clock by which speeds are measured, in seconds."""
    committed: Callable[[int], None] = lambda step: None
    """Called with the step of each checkpoint that this attempt has committed."""


class Watch:
    """Decides after each step what comes next: evaluate, save or stop; records scores and losses."""

    def __init__(
        self,
        spec: TrainingSpec,
        host: Host,
        batches: TokenBatches,
        rows: LabelledRows,
        resumed: Checkpoint | None,
    ) -> None:
        self._spec, self._host, self._batches, self._rows = spec, host, batches, rows
        self.first_step = resumed.step if resumed else 0
        self.best_step = resumed.best_step if resumed else None
        self._best = resumed.best_score if resumed else None
        self._waited = resumed.waited if resumed else 0
        self.history: list[dict[str, float]] = [dict(h) for h in resumed.history] if resumed else []
        self.tokens = self.padding = self.rows_seen = 0
        self.paused_s = 0.0
        """Seconds of evaluating and saving."""
        self._evaluate_at = _evaluations(batches, spec.evaluations)
        self._began = host.clock()
        self._saved_monotonic = time.monotonic()
        self._save_s = 0.0
        self._stop_for: str | None = None

    def clock(self) -> float:
        """The clock by which pauses are measured, in seconds."""
        return self._host.clock()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train after the checkpoint that was resumed."""
        patience = self._spec.early_stopping
        gave_up = bool(patience) and self._waited >= patience
        return self.first_step >= len(self._batches) or gave_up

    def saw(self, lengths: np.ndarray) -> None:
        """Called before a batch of rows of these lengths."""
        self.tokens += int(lengths.sum())
        self.padding += int(lengths.max()) * len(lengths) - int(lengths.sum())
        self.rows_seen += len(lengths)

    def stepped(self, step: int, control: Any) -> None:
        """Called after each step: tells the Trainer whether to log, evaluate and save."""
        due = time.monotonic() - self._saved_monotonic >= CHECKPOINT_S
        last = step >= len(self._batches)
        control.should_evaluate = len(self._rows.validation) > 0 and step in self._evaluate_at
        control.should_save = control.should_evaluate or due or last
        control.should_training_stop = control.should_training_stop or last
        reason = self._host.stop_reason()
        if reason is not None and not last:
            self._stop_for = reason
            if self._host.seconds_left() < 2 * self._save_s and reason == "drain":
                self._host.stop(reason)  # back to the last commit
            control.should_save = True
        self._show(step)

    def evaluated(self, step: int, logits: np.ndarray, control: Any) -> None:
        """Record the scores; ask the Trainer to stop if they have not improved for a while."""
        numbers = score_rows(self._rows, logits, self._spec).numbers
        value = numbers[BEST_BY[self._spec.problem]]
        if self._best is None or value > self._best + GAIN:
            self._best, self.best_step, self._waited = value, step, 0
        else:
            self._waited += 1
        self._add(step, {f"validation_{name}": number for name, number in numbers.items()})
        patience = self._spec.early_stopping
        if patience and self._waited >= patience:
            control.should_training_stop = True
        self._show(step)

    def logged(self, step: int, logs: Mapping[str, float]) -> None:
        """Record loss and learning rate."""
        numbers = {k: float(v) for k, v in logs.items() if k in ("loss", "learning_rate")}
        if numbers:
            self._add(step, numbers)

    def saved(self, step: int, folder: Path) -> None:
        """Commit what the Trainer has written; then end the attempt if a stop was requested."""
        began = time.monotonic()
        state = {
            "best_step": self.best_step, "best_score": self._best, "waited": self._waited,
            "history": tuple(self.history),
        }  # fmt: skip
        if self._host.book.commit(step, folder, state):
            self._host.committed(step)
        self._host.book.forget_old(self.best_step)
        shutil.rmtree(folder, ignore_errors=True)
        self._saved_monotonic = time.monotonic()
        self._save_s = max(self._save_s, self._saved_monotonic - began)
        if self._stop_for is not None:
            self._host.stop(self._stop_for)

    def _add(self, step: int, numbers: Mapping[str, float]) -> None:
        self.history.append({"step": step, **numbers})
        self._host.write_scalars(step, numbers)

    def _show(self, step: int) -> None:
        losses = [h["loss"] for h in self.history[-4:] if "loss" in h]
        self._host.show(
            Progress(
                step=step, of=len(self._batches), epoch=self._batches.epoch_at(step),
                loss=losses[-1] if losses else None, best=self._best,
                rows_per_s=self.rows_seen / max(self._host.clock() - self._began - self.paused_s, 1e-3),
            )
        )  # fmt: skip


def _evaluations(batches: TokenBatches, per_epoch: int) -> set[int]:
    """The steps after which the model is evaluated: evenly in each epoch, and at its end."""
    found, start = set(), 0
    for end in batches.ends:
        size = end - start
        found |= {start + max(1, round(size * i / per_epoch)) for i in range(1, per_epoch + 1)}
        start = end
    return found | {len(batches)}
