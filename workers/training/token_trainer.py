"""transformers' Trainer, given our batches: what must subclass its classes, and no more.

Imported only where a training runs: transformers' Trainer imports torch and accelerate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from schemas.records.training import TrainingSpec
from workers.training.loop_watch import Watch
from workers.training.model.student import distillation_loss
from workers.training.rows.labelled_rows import LabelledRows
from workers.training.rows.token_batches import TokenBatches

EVALUATED_TOKENS = 8_192
"""Tokens of a batch without gradients. Chosen: as quick as larger ones on two cores."""


class TokenTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose batches are ours, and whose evaluation is ours too."""

    def __init__(
        self,
        *,
        batches: TokenBatches,
        rows: LabelledRows,
        spec: TrainingSpec,
        watch: Watch,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._batches, self._rows, self._watch = batches, rows, watch
        self._class_weights, self._distillation = spec.class_weights, spec.distillation
        self.add_callback(_Callback(watch))

    def get_train_dataloader(self) -> Any:
        """The batches of all epochs as one pass."""
        own = torch.Generator()  # else each pass would draw from the one that dropout draws from
        loader = DataLoader(
            self.train_dataset, batch_sampler=self._batches, collate_fn=self._collate,
            generator=own, pin_memory=self.args.dataloader_pin_memory,
        )  # fmt: skip
        return self.accelerator.prepare(loader)

    def _collate(self, batch: list[int]) -> Any:
        self._watch.saw(self._rows.lengths[batch])
        return self.data_collator(batch)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The model's own loss; weighted by class weights; or against a teacher's scores."""
        if self._distillation is not None:
            labels, teacher, is_gold = (inputs.pop(n) for n in ("labels", "teacher", "is_gold"))
            outputs = model(**inputs)
            loss = distillation_loss(outputs.logits, labels, teacher, is_gold, self._distillation)
            return (loss, outputs) if return_outputs else loss
        if self._class_weights is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits.float()
        weights = torch.tensor(self._class_weights, device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits, labels, weight=weights)
        return (loss, outputs) if return_outputs else loss

    def _evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """What the Trainer calls in mid-training; the scores are kept by `Watch`."""
        began = self._watch.clock()
        logits = self.logits_of(self._rows.validation)
        self._watch.evaluated(self.state.global_step, logits, self.control)
        self.control.should_evaluate = False
        self._watch.paused_s += self._watch.clock() - began
        return {}

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        return False

    def logits_of(self, rows: np.ndarray) -> np.ndarray:
        """The model's numbers for these rows, float32 `[rows, labels]`, in their order.

        Of entities those of their tokens, row after row, `[tokens, tags]`.
        """
        model, collate = self.model, self.data_collator
        lengths = self._rows.lengths[rows]
        order = np.argsort(-lengths, kind="stable")
        found: list[Any] = []
        was_training = model.training
        model.eval()
        start = 0
        with torch.inference_mode(), self.compute_loss_context_manager():
            while start < len(order):
                count = max(1, EVALUATED_TOKENS // int(lengths[order[start]]))
                batch = self._prepare_inputs(collate(rows[order[start : start + count]]))
                for name in ("labels", "teacher", "is_gold"):
                    batch.pop(name, None)
                numbers = model(**batch).logits.float()
                if self._rows.places is not None:
                    numbers = numbers[batch["attention_mask"].bool()]
                found.append(numbers.cpu().numpy())
                start += count
        model.train(was_training)
        if not found:
            return np.zeros((0, self.model.config.num_labels), dtype=np.float32)
        told = np.concatenate(found)
        logits = np.empty_like(told)
        logits[order if self._rows.places is None else _token_order(lengths, order)] = told
        return logits


def _token_order(lengths: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Where the tokens of rows in `order` go, if rows of these lengths lie one after the other."""
    starts = np.cumsum(lengths) - lengths
    moved = lengths[order]
    within = np.arange(int(moved.sum())) - np.repeat(np.cumsum(moved) - moved, moved)
    return np.asarray(np.repeat(starts[order], moved) + within)


class _Callback(TrainerCallback):  # type: ignore[misc]
    """Passes the Trainer's events on to a `Watch`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._watch.stepped(state.global_step, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._watch.logged(state.global_step, logs or {})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        began = self._watch.clock()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._watch.saved(state.global_step, folder)
        self._watch.paused_s += self._watch.clock() - began
