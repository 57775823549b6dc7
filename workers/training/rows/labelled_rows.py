"""The labelled rows of a training: read once from the job's chunk, tokenized, kept in flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.entity_tags import Span
from schemas.errors import ModelError
from schemas.records.training import TEACHER, TRAIN, VALIDATION, TrainingSpec
from workers.pipeline.rows import RowError, Window
from workers.training.rows.token_tags import NO_TAG, tags_of_spans

Check = Callable[[], None]
"""Called between two windows; raises to stop."""


@dataclass(slots=True)
class LabelledRows:
    """All rows of the job, in its order: `[rows]` each, tokens flat as in `Encodings`."""

    ids: np.ndarray
    """int32 `[tokens]`."""
    type_ids: np.ndarray | None
    offsets: np.ndarray
    """int64 `[rows + 1]`; a row without a text has no tokens."""
    truncated: np.ndarray
    targets: np.ndarray
    """int64 `[rows]` class numbers (-1: none), float32 `[rows, labels]`, or float32 `[rows]`.

    Of entities the numbers of their tags, int64 `[tokens]` (-100: none).
    """
    train: np.ndarray
    """Row numbers, int64."""
    validation: np.ndarray
    windows: list[Window] = field(default_factory=list)
    places: np.ndarray | None = None
    """Of entities: start and end of each token in the text, int32 `[tokens, 2]`; the end is exclusive."""
    teacher: np.ndarray | None = None
    """Probabilities that a teacher gave each label, float32 `[rows, labels]`; NaN: none."""
    is_gold: np.ndarray | None = None
    """With a teacher: whether the target is a gold label, bool `[rows]`."""
    entities: list[list[Span]] | None = None
    """Labelled entities of each row."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, int64 `[rows]`."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def tokens_of(self, rows: np.ndarray) -> np.ndarray:
        """Indices of these rows' tokens in `ids`, row after row, int64 `[tokens]`."""
        lengths = self.lengths[rows]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.asarray(np.repeat(self.offsets[rows], lengths) + within)

    def token_targets(self, rows: np.ndarray) -> np.ndarray:
        """Of entities: the numbers of these rows' tags, int64 `[tokens]`."""
        return np.asarray(self.targets[self.tokens_of(rows)])


def read_rows(
    windows: Iterable[Window], tokenizer: Any, spec: TrainingSpec, split_column: str, check: Check
) -> LabelledRows:
    """Every row, tokenized as the job's tasks are: special tokens added, cut at the length limit.

    Raises:
        ModelError: the rows hold a label that the job does not know.
    """
    kept: list[Window] = []
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths: list[int] = []
    cut: list[bool] = []
    limit = spec.max_length or min(int(tokenizer.model_max_length), 512)
    places: list[np.ndarray] = []
    of_tokens = spec.problem == "entities"
    if of_tokens and not getattr(tokenizer, "is_fast", False):
        raise ModelError("the base's tokenizer does not say where tokens lie in the text")
    for window in windows:
        check()
        found = _encode(tokenizer, window, limit, places=of_tokens)
        places += [
            np.reshape(np.asarray(row, np.int32), (-1, 2))
            for row in found.get("offset_mapping", [])
        ]
        ids += [np.asarray(row, np.int32) for row in found["input_ids"]]
        types += [np.asarray(row, np.int8) for row in found.get("token_type_ids", [])]
        lengths += [len(row) for row in found["input_ids"]]
        cut += found["cut"]
        kept.append(window)
    carried = pa.Table.from_batches([window.carried for window in kept])
    has_text = np.array(lengths) > 0
    split = carried[split_column].combine_chunks().to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    column = carried[spec.label_column]
    entities = _entities(column) if of_tokens else None
    teacher = is_gold = None
    if entities is None:
        targets = targets_of(column, spec)
        if spec.distillation is not None:
            teacher, is_gold = _teacher(carried[TEACHER], spec), targets >= 0
            told = np.nan_to_num(teacher, nan=-1.0).argmax(-1)
            targets = np.where(is_gold, targets, told)
    else:
        targets = _tags(places, entities, spec)
        marked = np.concatenate([[0], np.cumsum(targets != NO_TAG)])
        has_text &= marked[offsets[1:]] > marked[offsets[:-1]]
    return LabelledRows(
        ids=np.concatenate(ids),
        type_ids=np.concatenate(types) if types else None,
        offsets=offsets,
        truncated=np.array(cut, dtype=bool),
        targets=targets,
        train=np.flatnonzero((split == TRAIN) & has_text),
        validation=np.flatnonzero((split == VALIDATION) & has_text),
        windows=kept,
        places=np.concatenate(places) if of_tokens else None,
        entities=entities,
        teacher=teacher,
        is_gold=is_gold,
    )


def _encode(tokenizer: Any, window: Window, limit: int, *, places: bool) -> dict[str, Any]:
    """Token ids of a window's rows, and their `places` in it; nothing for a row without a text."""
    good = [i for i, text in enumerate(window.texts) if not isinstance(text, RowError)]
    texts = [window.texts[i] for i in good]
    pairs = None if window.pairs is None else [window.pairs[i] for i in good]
    given = (texts,) if pairs is None else (texts, pairs)
    found: Any = {"input_ids": []}
    if good:
        found = tokenizer(
            *given, truncation=True, max_length=limit, return_offsets_mapping=places,
            return_special_tokens_mask=places,
        )  # fmt: skip
    names = [n for n in ("input_ids", "token_type_ids", "offset_mapping") if n in found]
    rows: dict[str, Any] = {name: [[] for _ in window.texts] for name in names}
    for name in names:
        for at, values in zip(good, found[name], strict=True):
            rows[name][at] = values
    if places and good:
        for at, special in zip(good, found["special_tokens_mask"], strict=True):
            rows["offset_mapping"][at] = [
                (0, 0) if s else place
                for s, place in zip(special, rows["offset_mapping"][at], strict=True)
            ]
    return rows | {"cut": [len(row) >= limit for row in rows["input_ids"]]}


def targets_of(column: pa.ChunkedArray, spec: TrainingSpec) -> np.ndarray:
    """The labels of the rows as the loss takes them; see `LabelledRows.targets`."""
    values = column.to_pylist()
    if spec.problem == "regression":
        return np.array([np.nan if v is None else v for v in values], dtype=np.float32)
    number = {label: i for i, label in enumerate(spec.labels)}
    try:
        if spec.problem == "single_label":
            return np.array([-1 if v is None else number[v] for v in values], dtype=np.int64)
        found = np.zeros((len(values), len(spec.labels)), dtype=np.float32)
        for row, labels in enumerate(values):
            for label in labels or ():
                found[row, number[label]] = 1.0
    except KeyError as error:
        raise ModelError(f"the rows hold the label {error}, which the job does not know") from error
    return found


def _entities(column: pa.ChunkedArray) -> list[list[Span]]:
    """The labelled entities of each row; none where it has no label."""
    return [
        [(item["label"], item["start"], item["end"]) for item in items or ()]
        for items in column.to_pylist()
    ]


def _teacher(column: pa.ChunkedArray, spec: TrainingSpec) -> np.ndarray:
    """The teacher's probabilities, float32 `[rows, labels]`, NaN in rows without."""
    nothing = [np.nan] * len(spec.labels)
    return np.array([row or nothing for row in column.to_pylist()], dtype=np.float32)


def _tags(
    places: Sequence[np.ndarray], entities: Sequence[Sequence[Span]], spec: TrainingSpec
) -> np.ndarray:
    number = {tag: i for i, tag in enumerate(spec.labels)}
    try:
        found = [tags_of_spans(p, e, number) for p, e in zip(places, entities, strict=True)]
    except KeyError as error:
        raise ModelError(f"the rows hold the tag {error}, which the job does not know") from error
    return np.concatenate(found)


class Rows:
    """The rows as a data set for `torch.utils.data`: an item is a row's number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> int:
        return row


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes the tensors of a batch from row numbers: padded to its longest row."""

    rows: LabelledRows
    pad: int
    pad_type: int = 0

    def __call__(self, batch: Sequence[int]) -> dict[str, Any]:
        import torch

        numbers = np.asarray(batch, dtype=np.int64)
        lengths = self.rows.lengths[numbers]
        width = int(lengths.max())
        at = np.arange(width)
        mask = at < lengths[:, None]
        where = np.where(mask, self.rows.offsets[numbers][:, None] + at, 0)
        tensors = {
            "input_ids": np.where(mask, self.rows.ids[where], self.pad),
            "attention_mask": mask,
        }
        if self.rows.type_ids is not None:
            tensors["token_type_ids"] = np.where(mask, self.rows.type_ids[where], self.pad_type)
        found = {name: torch.from_numpy(array.astype(np.int64)) for name, array in tensors.items()}
        if self.rows.places is None:
            found["labels"] = torch.from_numpy(self.rows.targets[numbers])
            if self.rows.teacher is not None and self.rows.is_gold is not None:
                found["teacher"] = torch.from_numpy(self.rows.teacher[numbers])
                found["is_gold"] = torch.from_numpy(self.rows.is_gold[numbers])
            return found
        labels = np.where(mask, self.rows.targets[where], NO_TAG)
        return {**found, "labels": torch.from_numpy(labels)}
