"""The training loop: transformers' Trainer over our batches, with committed checkpoints.

The Trainer gets the batches of all epochs as one long epoch. So a step is a position in one sequence,
and a resumed training is exact.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from schemas.records.training import TrainingSpec
from workers.training.loop_watch import Host, Watch
from workers.training.model.lora import add_adapters, merge_adapters
from workers.training.rows.labelled_rows import Collator, LabelledRows, Rows
from workers.training.rows.token_batches import TokenBatches, default_budget

LOGS = 200
"""Chosen: the number of points of the loss curve."""


@dataclass(slots=True)
class Trained:
    """A finished training; the model has the weights of the best checkpoint."""

    steps: int
    best_step: int
    epochs: float
    stopped_early: bool
    seconds: float
    rows_per_s: float
    tokens: int
    padding: int
    learned: int
    """Number of trained parameters."""
    resumed_from: int
    logits: np.ndarray
    """Logits of the validation rows, `[rows, labels]`."""
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    model: Any, rows: LabelledRows, pad: tuple[int, int], spec: TrainingSpec, host: Host
) -> Trained:
    """Train the model on the rows, starting from the newest checkpoint; blocks until the end.

    `pad` is the id of the padding token and its type. The same rows, spec and model give the same weights on a
    CPU with the same number of threads, however often it is killed and resumed.

    Raises:
        Stopped: a stop was asked for; what was reached is committed if the grace time allowed.
    """
    resume = host.folder / "resume"
    found = host.book.newest(resume)
    lengths = rows.lengths[rows.train]
    budget = max(spec.batch_tokens or default_budget(lengths, spec.epochs), int(lengths.max()))
    batches = TokenBatches(rows.train, lengths, budget, spec.epochs, spec.seed)
    watch = Watch(spec, host, batches, rows, found)
    if spec.lora is not None:
        add_adapters(model, spec.lora)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    trainer = _trainer(model, rows, pad, spec, host, batches, watch)
    started = host.clock()
    if found is None or not watch.is_over:
        trainer.train(resume_from_checkpoint=str(resume) if found else None)
        steps = trainer.state.global_step
    else:  # it was killed after the last commit
        steps = found.step
        _load_weights(model, resume)
    seconds = host.clock() - started - watch.paused_s
    best = _take_best(model, host, steps, watch.best_step or steps)
    shutil.rmtree(resume, ignore_errors=True)
    if spec.lora is not None:
        merge_adapters(model)
    return Trained(
        steps=steps, best_step=best, epochs=round(batches.epoch_at(steps), 4),
        stopped_early=steps < len(batches), seconds=round(seconds, 3),
        rows_per_s=round(watch.rows_seen / max(seconds, 1e-9), 1),
        tokens=watch.tokens, padding=watch.padding, learned=learned, resumed_from=watch.first_step,
        logits=trainer.logits_of(rows.validation), history=watch.history,
    )  # fmt: skip


def logits_of(
    model: Any, rows: LabelledRows, pad: tuple[int, int], spec: TrainingSpec, host: Host
) -> np.ndarray:
    """The model's logits for the validation rows, float32 `[rows, labels]`; does not train."""
    lengths = rows.lengths[rows.train]
    batches = TokenBatches(rows.train, lengths, int(lengths.sum()) + 1, 1, spec.seed)
    watch = Watch(spec, host, batches, rows, None)
    trainer = _trainer(model, rows, pad, spec, host, batches, watch)
    found: np.ndarray = trainer.logits_of(rows.validation)
    return found


def _take_best(model: Any, host: Host, steps: int, best: int) -> int:
    """Load the weights of the best checkpoint if it is not the last; returns its step."""
    if best == steps:
        return best
    folder = host.folder / "best"
    is_whole = host.book.best(best, folder)
    if is_whole:
        _load_weights(model, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return best if is_whole else steps


def _load_weights(model: Any, folder: Path) -> None:
    from safetensors.torch import load_file

    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)


def _trainer(
    model: Any,
    rows: LabelledRows,
    pad: tuple[int, int],
    spec: TrainingSpec,
    host: Host,
    batches: TokenBatches,
    watch: Watch,
) -> Any:
    """A Trainer over the batches, which evaluates and saves where `watch` says."""
    from transformers import PrinterCallback, TrainingArguments

    from workers.training.token_trainer import TokenTrainer

    arguments = TrainingArguments(
        output_dir=str(host.folder / "trainer"),
        max_steps=len(batches),
        learning_rate=spec.learning_rate,
        warmup_steps=int(spec.warmup * len(batches)),
        weight_decay=spec.weight_decay,
        lr_scheduler_type="linear",
        logging_strategy="steps",
        logging_steps=max(1, len(batches) // LOGS),
        eval_strategy="no",  # and "no" saving: `Watch` asks for both
        save_strategy="no",
        seed=spec.seed,
        use_cpu=host.device == "cpu",
        bf16=host.bf16,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=host.device != "cpu",
        restore_callback_states_from_checkpoint=False,
    )
    trainer = TokenTrainer(
        model=model,
        args=arguments,
        train_dataset=Rows(len(rows)),
        eval_dataset=Rows(len(rows.validation)),
        data_collator=Collator(rows, *pad),
        batches=batches,
        rows=rows,
        spec=spec,
        watch=watch,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
