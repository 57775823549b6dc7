"""From labelled files to a job that trains: everything checked, and its rows kept with the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from headrace.formats.base import FAULT, Span
from headrace.formats.opener import InputOpener
from headrace.formats.text_column import as_bytes, plain_column
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.capacity.device_hint import DeviceHint
from producers.models.info import NO_MODEL, ModelInfo
from producers.models.named import version_of
from producers.models.reference import resolve_model
from producers.planning.chunking import Target
from producers.planning.columns import ColumnRequest
from producers.planning.corpus import Corpus, read_corpus
from producers.planning.discovery import discover
from producers.planning.tables import table_reader
from producers.submission.prepare import PreparedJob
from producers.submission.spec import options_of, resolve_dtype
from producers.training.entities import joined, readable, understand_entities
from producers.training.labels import Labels, balanced, understand
from producers.training.split import Split, split_by_file, split_rows
from schemas.errors import ColumnError, ConfigError, ModelError
from schemas.records.engine import PACKED
from schemas.records.job import Inputs, Spec
from schemas.records.text_hash import text_hash
from schemas.records.training import (
    JOB_TASKS,
    SPLIT,
    TRAIN,
    UNLABELLED,
    VALIDATION,
    Lora,
    ModelTask,
    Problem,
    Size,
    TrainingSpec,
)

StoreRows = Callable[[pa.Table, Store], str]
"""Writes a table to a store; returns its address."""

BASE_TASK = "feature-extraction"
"""The task whose checks a base passes: any encoder will do, its head is replaced."""
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """What `headrace train` was asked for."""

    label_column: str
    task: ModelTask = "text-classification"
    tokens_column: str | None = None
    """Of token classification: the tokens that the label column's tags belong to; None: spans."""
    base: str | None = None
    size: Size | None = None
    problem: Problem | None = None
    """None: as the labels say."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    validation: str = "0.1"
    """A share of the texts, or a file of labelled rows."""
    balanced: bool = False
    lora: Lora | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `TrainingSpec` that were given."""

    @property
    def share(self) -> float | None:
        """The share of the texts; None: a file was named."""
        try:
            share = float(self.validation)
        except ValueError:
            return None
        if not 0 <= share < 1:
            raise ConfigError(f"--validation {self.validation}: a share is from 0 to under 1")
        return share


@dataclass(frozen=True, slots=True)
class Checked:
    """Labelled rows that can be trained on; nothing is written yet."""

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
    if (asked.base is None) == (asked.size is None):
        raise ConfigError("a training needs --base MODEL, or --from-scratch with a --size")
    _check_options(settings, asked)
    rows, counts = _read(settings, inputs, asked, opened)
    rows, labels = _labels(settings, rows, asked)
    split = _split(settings, rows, labels, asked, counts[0])
    base, names = _base(settings, asked, labels, opened)
    spec = _spec(asked, labels, names, split)
    _check_sides(split, asked)
    table = _table(settings, rows, labels, split, asked)
    warnings = (*base.warnings, *labels.warnings, *_warnings(split, asked, len(rows)))
    return Checked(table, spec, split, labels, base, warnings)


def prepare_training(
    settings: Settings,
    inputs: Sequence[str],
    output: str,
    checked: Checked,
    hint: DeviceHint,
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
        carried=(checked.spec.label_column, SPLIT),
    )  # fmt: skip
    corpus = read_corpus((address,), discover([address], opened, literal=True), wanted)
    spec = Spec(
        inputs_digest=corpus.digest,
        text_column=wanted.text,
        text_pair_column=wanted.pair,
        id_column=wanted.id,
        columns=wanted.carried,
        task=wanted.task,
        params=checked.spec.model_dump(mode="json"),
        model=checked.model.ref,
        dtype=resolve_dtype("auto", hint),
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
        target=Target(rows=corpus.rows + 1, bytes=1 << 62),  # one chunk, whatever its size
        tokens_per_s=0.0,
        warnings=checked.warnings,
    )  # fmt: skip


def _read(
    settings: Settings, inputs: Sequence[str], asked: Asked, opened: Callable[[str], Store]
) -> tuple[pa.Table, tuple[int, int]]:
    """The wanted columns of all labelled rows, and how many are of `inputs` and of the
    validation file."""
    wanted = ColumnRequest(
        task=JOB_TASKS[asked.task], text=asked.tokens_column or settings.text_column,
        text_is_list=asked.tokens_column is not None, pair=settings.text_pair_column,
        id=settings.id_column, carried=(asked.label_column,),
    )  # fmt: skip
    sources = [list(inputs)] + ([[asked.validation]] if asked.share is None else [])
    tables = []
    for patterns in sources:
        found = discover(
            patterns, opened, only=settings.pattern, literal=settings.literal,
            read_table=table_reader(settings),
        )  # fmt: skip
        corpus = read_corpus(tuple(patterns), found, wanted, settings.limit)
        tables.append(pa.Table.from_batches(list(_batches(corpus, wanted, opened))))
    sizes = [len(table) for table in tables]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ColumnError(
            f"{asked.validation} has other types of columns than the training rows: {error}"
        ) from error
    return table, (sizes[0], sum(sizes[1:]))


def _batches(
    corpus: Corpus, wanted: ColumnRequest, opened: Callable[[str], Store]
) -> Iterator[pa.RecordBatch]:
    """The rows of a corpus, with the wanted columns alone."""
    opener = InputOpener(opened)
    left = corpus.rows
    for found in corpus.files:
        parts = dict(found.file.partitions)
        names = [name for name in wanted.in_files if name not in parts]
        row = 0
        for unit in found.units:
            span = Span.of_unit(unit, row)
            row += unit.rows
            for batch in opener(found.file).read(span, names, corpus.types.planned):
                batch = batch.slice(0, left)
                left -= len(batch)
                if FAULT in batch.schema.names:
                    batch = batch.drop_columns([FAULT])
                for name in wanted.in_files:
                    if name in parts:
                        constant = pa.repeat(pa.scalar(parts[name], pa.string()), len(batch))
                        batch = batch.append_column(name, constant)
                yield batch.select(list(wanted.in_files))


def _check_options(settings: Settings, asked: Asked) -> None:
    if asked.lora and asked.size:
        raise ConfigError("--lora learns beside a --base: a model from scratch has none")
    if asked.task == "text-classification":
        if asked.tokens_column:
            raise ConfigError("--tokens-column is for --task token-classification")
        return
    if settings.text_pair_column or asked.problem or asked.balanced:
        raise ConfigError(
            "--text-pair-column, --problem and --class-weights are not for token classification"
        )


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
    settings: Settings, rows: pa.Table, labels: Labels, asked: Asked, training_rows: int
) -> Split:
    hashes = _hashes(rows, settings.text_column, settings.text_pair_column)
    texts = _label_texts(labels)
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


def _hashes(rows: pa.Table, text: str, pair: str | None) -> list[bytes | None]:
    """A hash of each row's text; None where a text is missing."""
    found: list[bytes | None] = []
    for batch in rows.to_batches():
        texts = as_bytes(plain_column(batch, text))
        if pair is None:
            found += [None if t is None else text_hash(t) for t in texts]
            continue
        pairs = as_bytes(plain_column(batch, pair))
        found += [
            None if t is None or p is None else text_hash(t, p)
            for t, p in zip(texts, pairs, strict=True)
        ]
    return found


def _base(
    settings: Settings, asked: Asked, labels: Labels, opened: Callable[[str], Store]
) -> tuple[ModelInfo, tuple[str, ...]]:
    """The base, and the labels in the order of its outputs where it has the same ones."""
    if asked.base is None:
        return ModelInfo(NO_MODEL, {}), labels.names
    named = version_of(settings.model_copy(update={"model": asked.base}), any_task=True)
    info = resolve_model(
        asked.base if named is None else named.model.uri,
        settings.revision if named is None else named.model.revision,
        BASE_TASK,
        opened,
        max_length=asked.hyperparameters.get("max_length"),
        allow_pickle=settings.allow_pickle,
    )
    if info.config.get("is_encoder_decoder"):
        raise ModelError(f"{asked.base} is an encoder with a decoder: it cannot be a base here")
    same = sorted(info.labels) == sorted(labels.names)
    return info, info.labels if same else labels.names


def _spec(asked: Asked, labels: Labels, names: tuple[str, ...], split: Split) -> TrainingSpec:
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
        size=asked.size, lora=asked.lora,
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
    settings: Settings, rows: pa.Table, labels: Labels, split: Split, asked: Asked
) -> pa.Table:
    """What the job reads: id, texts, label and side of each row, in their order."""
    names = [settings.id_column, settings.text_column, settings.text_pair_column]
    kept = rows.select([n for n in dict.fromkeys(names) if n and n != asked.label_column])
    if SPLIT in kept.column_names or asked.label_column == SPLIT:
        raise ColumnError(f"a column is called {SPLIT!r}, as the one that is added: rename it")
    return kept.append_column(asked.label_column, labels.values).append_column(
        SPLIT, pa.array(split.sides, pa.string())
    )


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
