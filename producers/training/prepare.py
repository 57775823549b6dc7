"""Prepares a training job from labelled files: checks everything, and stores the rows in the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from headrace.models.named import version_of
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.capacity.device_hint import DeviceHint
from producers.models.info import NO_MODEL, ModelInfo
from producers.models.reference import resolve_model
from producers.planning.chunking import ChunkPlan, Target
from producers.planning.columns import ColumnRequest
from producers.planning.corpus import read_corpus
from producers.planning.discovery import discover
from producers.submission.prepare import PreparedJob
from producers.submission.spec import options_of, resolve_dtype
from producers.training.asked import Asked, check_options
from producers.training.entities import joined, readable, understand_entities
from producers.training.labels import Labels, balanced, understand
from producers.training.lora_targets import check_lora_targets
from producers.training.read_rows import hashes_of, read_labelled
from producers.training.split import Split, split_by_file, split_rows
from producers.training.teacher import (
    SCORES,
    Teacher,
    gold_and_taught,
    read_teacher,
    teaching_job,
)
from schemas.errors import ColumnError, ConfigError, ModelError
from schemas.records.engine import PACKED
from schemas.records.job import Inputs, Job, ModelRef, ResolvedDtype, Spec
from schemas.records.training import (
    SPLIT,
    TEACHER,
    TRAIN,
    UNLABELLED,
    VALIDATION,
    Distillation,
    TrainingSpec,
)
from schemas.training_tasks import JOB_TASKS

StoreRows = Callable[[pa.Table, Store], str]
"""Writes a table to a store; returns its address."""

BASE_TASK = "feature-extraction"
"""The task for which a base is checked: any encoder will do, since its head is replaced."""
FEWEST = 2
TRAINED_IN = ("auto", "float32", "bfloat16")
"""Values of `dtype` that a training can have."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Checked labelled rows and base; nothing is written yet."""

    table: pa.Table
    spec: TrainingSpec
    split: Split
    labels: Labels
    model: ModelInfo
    warnings: tuple[str, ...]


def check_training(settings: Settings, inputs: Sequence[str], asked: Asked) -> Checked:
    """Columns, labels, leaks and base, all checked.

    Raises:
        ConfigError: settings that contradict one another.
        InputNotFound, InputUnreadable, SchemaMismatch, ColumnError: see `read_corpus`, and
            `understand` for the labels.
        ModelError: the base cannot be found or used.
    """
    opened = partial(open_store, settings=settings)
    check_options(settings, asked)
    teacher = None if asked.teacher is None else _teacher(settings, asked.teacher, opened)
    rows, counts = read_labelled(settings, inputs, asked, opened)
    taught: list[np.ndarray | None] | None = None
    if teacher is None:
        rows, labels = _labels(settings, rows, asked)
        known = _label_texts(labels)
    else:
        hashes = hashes_of(rows, settings.text_column, settings.text_pair_column)
        taught, gold = teacher.scores(hashes), rows[asked.label_column] if asked.has_gold else None
        labels, known = gold_and_taught(teacher, taught, gold, asked.label_column, asked.renamed)
    split = _split(settings, rows, labels, known, asked, counts[0])
    base, names = _base(settings, asked, labels, teacher, opened)
    check_lora_targets(asked.lora, base)
    spec = _spec(asked, labels, names, split, teacher, base)
    _check_sides(split, asked)
    table = _table(settings, rows, labels, split, asked, _in_order(taught, labels.names, names))
    warnings = (*base.warnings, *labels.warnings, *_warnings(split, asked, len(rows)))
    return Checked(table, spec, split, labels, base, warnings)


def training_dtype(
    asked: str, hint: DeviceHint | None, before: Job | None
) -> tuple[ResolvedDtype, str | None]:
    """The precision of a training, and a warning if it is not what was asked for.

    `hint` is what the workers are, None where there is none to tell; `before` is the job in the
    output, if any: it goes on as it began, whichever workers are there now.
    """
    said = None
    if asked not in TRAINED_IN:
        said = f"--dtype {asked} is for scoring: a training computes in float32 or bfloat16"
        asked = "auto"
    if asked == "auto" and before is not None and before.spec.dtype in TRAINED_IN:
        return before.spec.dtype, said
    return resolve_dtype(asked, hint or DeviceHint()), said


def prepare_training(
    settings: Settings,
    inputs: Sequence[str],
    output: str,
    checked: Checked,
    dtype: ResolvedDtype,
    store_rows: StoreRows,
) -> PreparedJob:
    """The job, its rows stored in the output; the same rows are stored once.

    Raises:
        OutputNotWritable, StorageError, DiskFull: as the store says.
    """
    opened = partial(open_store, settings=settings)
    store = opened(output)
    address = store_rows(checked.table, store)
    wanted = ColumnRequest(
        task=JOB_TASKS[checked.spec.task], text=settings.text_column,
        pair=settings.text_pair_column, id=settings.id_column,
        carried=(checked.spec.label_column, SPLIT, *((TEACHER,) if checked.spec.distillation else ())),
    )  # fmt: skip
    corpus = read_corpus((address,), discover([address], opened, literal=True), wanted)
    spec = Spec(
        inputs_digest=corpus.digest,
        text_column=wanted.text,
        text_pair_column=wanted.pair,
        id_column=wanted.id,
        columns=wanted.carried,
        task=wanted.task,
        params=checked.spec.to_params(),
        model=checked.model.ref,
        dtype=dtype,
        max_length=checked.spec.max_length,
        engine=PACKED,
        answers_version=1,
    )
    return PreparedJob(
        output=store.uri,
        spec=spec,
        options=options_of(settings),
        inputs=Inputs(
            patterns=tuple(inputs), digest=corpus.digest, files=corpus.file_count,
            rows=corpus.rows, bytes=corpus.file_bytes,
        ),
        corpus=corpus,
        model=checked.model,
        plan=ChunkPlan(corpus.files, Target(rows=corpus.rows + 1, bytes=1 << 62)),  # one chunk
        tokens_per_s=0.0,
        warnings=checked.warnings,
    )  # fmt: skip


def _teacher(settings: Settings, output: str, opened: Callable[[str], Store]) -> Teacher:
    """The scores in an output, with the labels of the model that made them."""
    store = opened(output)
    job = teaching_job(store)
    ref = job.spec.model
    info = resolve_model(
        ref.uri,
        ref.revision,
        BASE_TASK,
        opened,
        max_length=None,
        allow_pickle=settings.allow_pickle,
    )
    return read_teacher(store, job, info.labels)


def _in_order(
    taught: list[np.ndarray | None] | None, before: Sequence[str], names: Sequence[str]
) -> list[list[float] | None] | None:
    """The teacher's scores in the order of the student's labels."""
    if taught is None:
        return None
    order = [list(before).index(name) for name in names]
    return [None if scores is None else scores[order].tolist() for scores in taught]


def _labels(settings: Settings, rows: pa.Table, asked: Asked) -> tuple[pa.Table, Labels]:
    """The rows with a text in each, and their labels."""
    name = asked.label_column
    if asked.task == "text-classification":
        return rows, understand(rows[name], name, asked.problem, asked.renamed)
    tokens = None if asked.tokens_column is None else rows[asked.tokens_column]
    if tokens is not None and asked.tokens_column is not None:
        texts = joined(tokens, asked.tokens_column)
        others = [n for n in rows.column_names if n != settings.text_column]
        rows = rows.select(others).append_column(settings.text_column, texts)
    else:
        texts = readable(rows[settings.text_column].combine_chunks())
    return rows, understand_entities(texts, rows[name], name, tokens, asked.renamed)


def _split(
    settings: Settings, rows: pa.Table, labels: Labels, texts: list[str | None], asked: Asked,
    training_rows: int,
) -> Split:  # fmt: skip
    hashes = hashes_of(rows, settings.text_column, settings.text_pair_column)
    if asked.share is None:
        return split_by_file(hashes, texts, training_rows)
    stratify = labels.problem == "single_label"
    seed = int(asked.hyperparameters.get("seed", 0))
    return split_rows(hashes, texts, asked.share, seed, stratify=stratify)


def _label_texts(labels: Labels) -> list[str | None]:
    if labels.problem == "single_label":
        found: list[str | None] = labels.values.to_pylist()
        return found
    return [None if value is None else repr(value) for value in labels.values.to_pylist()]


def _base(
    settings: Settings, asked: Asked, labels: Labels, teacher: Teacher | None,
    opened: Callable[[str], Store],
) -> tuple[ModelInfo, tuple[str, ...]]:  # fmt: skip
    """The base, and the labels in the order of its outputs where it has the same ones.

    Without one that was named it is the teacher's own model.
    """
    if asked.size is not None:
        return ModelInfo(NO_MODEL, {}), labels.names
    if asked.base is None:
        assert teacher is not None
        ref: ModelRef | None = teacher.job.spec.model
    else:
        named = version_of(settings.model_copy(update={"model": asked.base}), any_task=True)
        ref = None if named is None else named.model
    info = resolve_model(
        str(asked.base) if ref is None else ref.uri,
        settings.revision if ref is None else ref.revision or None,
        BASE_TASK,
        opened,
        max_length=asked.hyperparameters.get("max_length"),
        allow_pickle=settings.allow_pickle,
    )
    if info.config.get("is_encoder_decoder"):
        raise ModelError(f"{asked.base} is an encoder with a decoder: it cannot be a base here")
    same = sorted(info.labels) == sorted(labels.names)
    return info, info.labels if same else labels.names


def _student_layers(asked: Asked, teacher: Teacher | None, base: ModelInfo) -> int | None:
    """Layers of the student; None: as many as the base has."""
    said = (base.config.get(name) for name in ("num_hidden_layers", "n_layers", "n_layer"))
    layers = next((n for n in said if isinstance(n, int)), None)
    wanted = asked.student_layers
    if wanted is None and teacher is not None and asked.base is None and asked.size is None:
        if layers is None or layers < 2:
            raise ConfigError("the teacher's model does not say its layers: give --student-layers")
        return layers // 2
    if wanted is not None and layers is not None and not 1 <= wanted < layers:
        raise ConfigError(f"--student-layers {wanted}: the base has {layers} layers")
    return wanted


def _spec(
    asked: Asked, labels: Labels, names: tuple[str, ...], split: Split, teacher: Teacher | None,
    base: ModelInfo,
) -> TrainingSpec:  # fmt: skip
    weights = None
    if asked.balanced:
        if labels.problem != "single_label":
            raise ConfigError("--class-weights balanced is for rows with one label each")
        values = labels.values.to_pylist()
        trained = [v for v, side in zip(values, split.sides, strict=True) if side == TRAIN]
        weights = balanced([trained.count(name) for name in names])
    given: dict[str, float] = {"learning_rate": 5e-4} if asked.size or asked.lora else {}
    if asked.size:
        given["epochs"] = 5.0
    return TrainingSpec(
        task=asked.task, problem=labels.problem, label_column=asked.label_column, labels=names,
        size=asked.size, lora=asked.lora, student_layers=_student_layers(asked, teacher, base),
        distillation=None if teacher is None else Distillation(job=teacher.job.id, **asked.distilled),
        class_weights=weights, **{**given, **asked.hyperparameters},
    )  # fmt: skip


def _check_sides(split: Split, asked: Asked) -> None:
    if split.count(TRAIN) < FEWEST:
        raise ColumnError(
            f"{split.count(TRAIN)} rows are left to train on: {split.count(UNLABELLED):,} have no "
            f"label or no text, {split.leaked:,} have a text of the validation file"
        )
    if split.count(VALIDATION) == 0 and asked.share != 0:
        raise ColumnError(
            "no row is left for validation: give a larger --validation, or --validation 0 to train "
            "on all rows without knowing how good the model is"
        )


def _table(
    settings: Settings, rows: pa.Table, labels: Labels, split: Split, asked: Asked,
    taught: list[list[float] | None] | None,
) -> pa.Table:  # fmt: skip
    """The job's input: id, texts, label and side of each row, in order."""
    names = [settings.id_column, settings.text_column, settings.text_pair_column]
    kept = rows.select([n for n in dict.fromkeys(names) if n and n != asked.label_column])
    if SPLIT in kept.column_names or asked.label_column == SPLIT:
        raise ColumnError(f"a column is called {SPLIT!r}, as the one that is added: rename it")
    table = kept.append_column(asked.label_column, labels.values).append_column(
        SPLIT, pa.array(split.sides, pa.string())
    )
    if taught is None:
        return table
    if TEACHER in table.column_names:
        raise ColumnError(f"a column is called {TEACHER!r}, as the one that is added: rename it")
    return table.append_column(TEACHER, pa.array(taught, SCORES))


def _warnings(split: Split, asked: Asked, rows: int) -> Iterator[str]:
    without = split.count(UNLABELLED)
    if without:
        yield f"{without:,} of {rows:,} rows have no label or no text: nothing is learned from them"
    if split.contradicted:
        yield f"{split.contradicted:,} texts have different labels in different rows"
    if split.leaked:
        yield (
            f"{split.leaked:,} training rows have a text of {asked.validation}: they are left out, "
            "or the scores would be too good"
        )
