"""Turns a trained model into its outputs: record, card, files, and a row for each labelled row."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.storage.store import Store
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.training import (
    ModelFiles,
    TrainingResult,
    TrainingSpec,
)
from schemas.versions import versions
from workers.pipeline.rows import ChunkStats, RowError, Window, error_columns
from workers.training.card import model_card
from workers.training.checkpoints import get_files, put_files
from workers.training.entity_scores import entity_counts, score_rows
from workers.training.loop import Trained
from workers.training.model.make import load_base, save_model, scale_last_layer
from workers.training.predictions import predicted_columns
from workers.training.rows.labelled_rows import LabelledRows
from workers.training.rows.token_tags import NO_TAG
from workers.training.scores import fit_temperature

FEWEST = 20
"""Chosen: with fewer validation rows, a fitted temperature would be random."""
MOST = 200_000
"""Chosen: tokens used to fit a temperature; more would change only its third digit."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The part of the record about the attempt that ended the training."""

    id: str
    number: int
    device: str
    data_digest: str
    """Digest of the labelled rows: the name of their file in the output."""


def calibrate(model: Any, trained: Trained, rows: LabelledRows, spec: TrainingSpec) -> float:
    """Fit the temperature, put it into the model's last layer and the logits; 1 where there is none."""
    if spec.problem not in ("single_label", "entities") or len(rows.validation) < FEWEST:
        return 1.0
    temperature = fit_temperature(*_numbers_and_targets(trained.logits, rows, spec))
    if not scale_last_layer(model, temperature):
        return 1.0
    trained.logits = trained.logits / temperature
    return temperature


def _numbers_and_targets(
    logits: np.ndarray, rows: LabelledRows, spec: TrainingSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and classes of the labelled rows; of entities, of the tokens that have a tag."""
    if spec.problem != "entities":
        return logits, rows.targets[rows.validation]
    targets = rows.token_targets(rows.validation)
    known = np.flatnonzero(targets != NO_TAG)[:MOST]
    return logits[known], targets[known]


def result_of(
    model: Any, trained: Trained, rows: LabelledRows, temperature: float, job: Job,
    spec: TrainingSpec, attempt: Attempt, sides: dict[str, int],
) -> TrainingResult:  # fmt: skip
    """The record of the training; `sides` are the rows by their side of the split."""
    has_rows = len(rows.validation) > 0
    found = score_rows(rows, trained.logits, spec) if has_rows else None
    return TrainingResult(
        base="" if spec.size else job.spec.model.uri,
        base_revision="" if spec.size else job.spec.model.revision, spec=spec,
        data_digest=attempt.data_digest, rows=sides, label_rows=label_rows(rows, spec),
        steps=trained.steps, best_step=trained.best_step, epochs=trained.epochs,
        stopped_early=trained.stopped_early,
        scores={k: round(v, 6) for k, v in found.numbers.items()} if found else {},
        classes=found.classes if found else (), temperature=temperature,
        parameters=sum(p.numel() for p in model.parameters()),
        learned_parameters=trained.learned if spec.lora else None, tokens=trained.tokens,
        padding=trained.padding, seconds=trained.seconds, rows_per_s=trained.rows_per_s,
        attempts=attempt.number, resumed_from=trained.resumed_from, device=attempt.device,
        versions=versions(), history=tuple(trained.history),
    )  # fmt: skip


def label_rows(rows: LabelledRows, spec: TrainingSpec) -> dict[str, int]:
    """Training rows by label, or entities by theirs; empty for a regression."""
    if spec.problem == "entities":
        return entity_counts(rows, rows.train, spec)
    targets = rows.targets[rows.train]
    if spec.problem == "regression":
        return {}
    if spec.problem == "multi_label":
        counts = (targets > 0.5).sum(0)
    else:
        counts = np.bincount(targets, minlength=len(spec.labels))
    return dict(zip(spec.labels, (int(n) for n in counts), strict=True))


def write_model(
    model: Any, tokenizer: Any, result: TrainingResult, job: Job, licence: str | None, folder: Path
) -> None:
    """The model's folder: weights, configuration, tokenizer, card and record."""
    save_model(model, tokenizer, folder)
    inputs = job.inputs.patterns
    (folder / "README.md").write_text(
        model_card(result, job=job.id, licence=licence, inputs=inputs)
    )
    name = Path(output_layout.TRAINING_RESULT).name
    (folder / name).write_text(result.model_dump_json(indent=1) + "\n")


def publish_model(store: Store, attempt: str, folder: Path) -> None:
    """Publish the folder's files as the run's model, unless another attempt has done so.

    Raises:
        StorageError: the store failed.
    """
    prefix = output_layout.model_folder(attempt)
    files = put_files(store, prefix, folder)
    record = ModelFiles(attempt=attempt, folder=prefix, files=files)
    store.create(output_layout.MODEL_FILES, record.model_dump_json(indent=1).encode())


def take_published(store: Store, folder: Path) -> TrainingResult | None:
    """Copy the published files to `model/`; returns the record, None if nothing is published.

    Safe to call at any time, and twice.

    Raises:
        StorageError: the store failed, or a published file was damaged.
    """
    data = store.read(output_layout.MODEL_FILES)
    if data is None:
        return None
    record = ModelFiles.model_validate_json(data)
    named = Path(output_layout.TRAINING_RESULT).name
    missing = [f for f in record.files if store.head(f"{output_layout.MODEL}{f.name}") is None]
    if missing and get_files(store, record.folder, record.files, folder):
        # the configuration comes last: without it the folder is no model
        for file in sorted(record.files, key=lambda f: f.name == "config.json"):
            store.create_from_file(f"{output_layout.MODEL}{file.name}", folder / file.name)
    shutil.rmtree(folder, ignore_errors=True)
    kept = store.read(f"{output_layout.MODEL}{named}")
    return None if kept is None else TrainingResult.model_validate_json(kept)


def load_published(store: Store, folder: Path, spec: TrainingSpec) -> Any:
    """The run's model, with the weights under `model/`.

    Raises:
        ModelError: they were damaged.
    """
    target = folder / "published"
    target.mkdir(parents=True, exist_ok=True)
    for info in store.list(output_layout.MODEL):
        data = store.read(info.name)
        (target / Path(info.name).name).write_bytes(data or b"")
    return load_base(target, spec)[0]


def forget_published(store: Store) -> None:
    """Delete the attempts' own copies, once the model is under `model/`."""
    for info in list(store.list("_headrace/models/")):
        store.delete(info.name)


def part_rows(
    window: Window, first: int, rows: LabelledRows, predictions: dict[int, Any],
    spec: TrainingSpec, stats: ChunkStats, schema: pa.Schema, trace_id: str,
) -> pa.RecordBatch:  # fmt: skip
    """A window's rows as the part holds them; `first` is the number of its first row.

    Validation rows have the model's prediction, see `predictions_of`.
    """
    count = len(window)
    faults = {row: t for row, t in enumerate(window.texts) if isinstance(t, RowError)}
    good = np.ones(count, dtype=bool)
    good[list(faults)] = False
    lengths = rows.lengths[first : first + count]
    cut = rows.truncated[first : first + count]
    columns = {
        **dict(zip(window.carried.schema.names, window.carried.columns, strict=True)),
        **predicted_columns(window, first, predictions, spec),
        "n_tokens": pa.array(lengths.astype(np.int32), mask=~good),
        "truncated": pa.array(cut, mask=~good),
        **error_columns(count, faults, trace_id),
        "text_hash": pa.array(list(window.hashes), pa.binary(16)),
    }
    stats.count_rows(count, faults.values())
    stats.computed += int(good.sum())
    stats.tokens += int(lengths[good].sum())
    stats.truncated += int(cut[good].sum())
    arrays = [columns[f.name].cast(f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.remove_metadata())
