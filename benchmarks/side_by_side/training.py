"""Our training beside transformers' own Trainer, by processor time on one thread.

`python -m benchmarks.side_by_side.training` compares, on texts of skewed length:

- `bare`: Trainer with our batches, and nothing of ours around it, against our loop with its
  evaluations and checkpoints left out of both times. It shows what the loop costs.
- `default`: Trainer as it comes (8 rows a batch, in random order) against batches by tokens, the
  same epochs. It shows what the batches gain, and that accuracy does not suffer.

Processor time, since other work on the machine moves the clock.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.storage.local import LocalStore
from schemas.records.training import SPLIT, TRAIN, VALIDATION, Size, TrainingSpec
from workers.pipeline.rows import Window
from workers.training.checkpoints import CheckpointBook
from workers.training.loop import train
from workers.training.loop_watch import Host
from workers.training.model.make import make_model
from workers.training.rows.labelled_rows import Collator, LabelledRows, read_rows
from workers.training.rows.token_batches import TokenBatches, default_budget

MEDIAN_WORDS, SPREAD, MOST_WORDS = 14, 1.1, 200
GOOD = ("good", "great", "lovely", "superb", "fine")
BAD = ("bad", "awful", "poor", "dull", "weak")
OTHER = tuple(f"word{i}" for i in range(400))


@dataclass(frozen=True, slots=True)
class Measured:
    """A training: processor seconds in the loop, and its share of right validation rows."""

    seconds: float
    rows: int
    accuracy: float

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds


def skewed_rows(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of log-normal length, and labels that the words of each decide, with some noise."""
    chance = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        label = chance.choice(["negative", "positive"])
        length = min(MOST_WORDS, max(2, int(chance.lognormvariate(np.log(MEDIAN_WORDS), SPREAD))))
        words = [chance.choice(OTHER) for _ in range(length)]
        for _ in range(1 + length // 12):
            told = label if chance.random() < 0.9 else "positive"
            place = chance.randrange(len(words) + 1)
            words.insert(place, chance.choice(GOOD if told == "positive" else BAD))
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def made(count: int, spec: TrainingSpec) -> tuple[Any, Any, LabelledRows]:
    """A new model, its tokenizer and the labelled rows; the same for the same spec."""
    from transformers import set_seed

    texts, labels = skewed_rows(count)
    sides = [VALIDATION if i % 5 == 0 else TRAIN for i in range(count)]
    set_seed(spec.seed)
    model, tokenizer = make_model(texts, spec)
    carried = pa.record_batch({"id": list(range(count)), "label": labels, SPLIT: sides})
    window = Window(0, carried, texts, [b""] * count)
    return model, tokenizer, read_rows([window], tokenizer, spec, SPLIT, lambda: None)


def ours(count: int, spec: TrainingSpec) -> Measured:
    """`headrace train`'s loop, in this process."""
    model, _, rows = made(count, spec)
    with tempfile.TemporaryDirectory() as folder:
        host = Host(
            folder=Path(folder), device="cpu", bf16=False,
            book=CheckpointBook(LocalStore(f"{folder}/run"), "a" * 16, lambda step: None),
            stop_reason=lambda: None, stop=lambda reason: None, show=lambda progress: None,
            write_scalars=lambda step, numbers: None, seconds_left=lambda: 0.0,
            clock=time.process_time,
        )  # fmt: skip
        trained = train(model, rows, (0, 0), spec, host)
    right = trained.logits.argmax(-1) == rows.targets[rows.validation]
    seen = int(trained.epochs * len(rows.train))
    return Measured(trained.seconds, seen, float(right.mean()))


def bare(count: int, spec: TrainingSpec, *, own_batches: bool) -> Measured:
    """transformers' Trainer alone: with our batches, or with its own of eight rows."""
    import torch
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer, TrainingArguments

    model, _, rows = made(count, spec)
    lengths = rows.lengths[rows.train]
    budget = max(spec.batch_tokens or default_budget(lengths, spec.epochs), int(lengths.max()))
    batches = TokenBatches(rows.train, lengths, budget, spec.epochs, spec.seed)
    collate = Collator(rows, 0)

    class WithBatches(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            data = list(range(len(rows)))
            loader = DataLoader(data, batch_sampler=batches, collate_fn=collate)
            return self.accelerator.prepare(loader)

    with tempfile.TemporaryDirectory() as folder:
        length = {"max_steps": len(batches)} if own_batches else {"num_train_epochs": spec.epochs}
        trainer = (WithBatches if own_batches else Trainer)(
            model=model,
            args=TrainingArguments(
                output_dir=folder, learning_rate=spec.learning_rate, warmup_steps=spec.warmup,
                weight_decay=spec.weight_decay, seed=spec.seed, use_cpu=True, report_to="none",
                disable_tqdm=True, remove_unused_columns=False, save_strategy="no", **length,
            ),
            train_dataset=rows.train.tolist(),
            data_collator=collate,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        began = time.process_time()
        trainer.train()
        seconds = time.process_time() - began
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(rows.validation), 32):
            batch = collate(rows.validation[start : start + 32])
            targets = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == targets).sum())
    seen = int(spec.epochs * len(rows.train))
    return Measured(seconds, seen, right / len(rows.validation))


def main() -> None:
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_500)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    spec = TrainingSpec(
        problem="single_label", label_column="label", labels=("negative", "positive"),
        size=Size(layers=2, width=128, vocabulary=1_000), epochs=2, learning_rate=5e-4,
        early_stopping=0,
    )  # fmt: skip
    runs = {
        "ours": lambda: ours(asked.rows, spec),
        "bare Trainer, our batches": lambda: bare(asked.rows, spec, own_batches=True),
        "Trainer as it comes": lambda: bare(asked.rows, spec, own_batches=False),
    }
    best: dict[str, Measured] = {}
    for _ in range(asked.rounds):  # in turn, so that a busy minute meets each of them
        for name, run in runs.items():
            found = run()
            if name not in best or found.seconds < best[name].seconds:
                best[name] = found
    print("| loop | rows/s of processor time | ours by it | accuracy |\n| --- | --- | --- | --- |")
    for name, it in best.items():
        share = best["ours"].rows_per_s / it.rows_per_s
        print(f"| {name} | {it.rows_per_s:,.0f} | {share:.2f} | {it.accuracy:.3f} |")


if __name__ == "__main__":
    main()
