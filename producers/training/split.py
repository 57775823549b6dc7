"""Splits labelled rows by text, so that no text is on both sides. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schemas.records.training import LEAKED, TRAIN, UNLABELLED, VALIDATION


@dataclass(frozen=True, slots=True)
class Split:
    """The side of each row, with counts for warnings."""

    sides: list[str]
    repeated: int
    """Rows whose text is that of an earlier labelled row."""
    contradicted: int
    """Texts that have two different labels."""
    leaked: int
    """Training rows left out, since their text is in the validation file."""

    def count(self, side: str) -> int:
        return self.sides.count(side)


def split_rows(
    hashes: Sequence[bytes | None],
    labels: Sequence[str | None],
    share: float,
    seed: int,
    *,
    stratify: bool = True,
) -> Split:
    """The rows with `share` of the texts for validation, of each label its share if `stratify`.

    `hashes` are of the texts (None: no text), `labels` as text (None: no label). All rows of a text
    go to one side. Of a label with one text only, that text is for training.
    """
    first: dict[bytes, str] = {}
    repeated, contradicted = 0, set()
    for text, label in zip(hashes, labels, strict=True):
        if text is None or label is None:
            continue
        if text in first:
            repeated += 1
            if first[text] != label:
                contradicted.add(text)
        first.setdefault(text, label)
    groups: dict[str, list[bytes]] = {}
    for text, label in first.items():
        groups.setdefault(label if stratify else "", []).append(text)
    chosen: set[bytes] = set()
    for texts in groups.values():
        texts.sort(key=lambda text: _order(text, seed))
        chosen.update(texts[: round(len(texts) * share)])
    sides = [
        UNLABELLED if text is None or label is None else VALIDATION if text in chosen else TRAIN
        for text, label in zip(hashes, labels, strict=True)
    ]
    return Split(sides, repeated, len(contradicted), 0)


def split_by_file(
    hashes: Sequence[bytes | None],
    labels: Sequence[str | None],
    training_rows: int,
) -> Split:
    """The first `training_rows` rows for training, those after them for validation.

    A training row whose text is among the validation rows is left out.
    """
    held_out = {h for h in hashes[training_rows:] if h is not None}
    sides: list[str] = []
    seen: dict[bytes, str] = {}
    repeated, contradicted = 0, set()
    for row, (text, label) in enumerate(zip(hashes, labels, strict=True)):
        sides.append(_side(text, label, row < training_rows, held_out))
        if text is None or label is None:
            continue
        if text in seen:
            repeated += 1
            if seen[text] != label:
                contradicted.add(text)
        seen.setdefault(text, label)
    return Split(sides, repeated, len(contradicted), sides.count(LEAKED))


def _side(
    text: bytes | None, label: str | None, for_training: bool, held_out: AbstractSet[bytes]
) -> str:
    if text is None or label is None:
        return UNLABELLED
    if not for_training:
        return VALIDATION
    return LEAKED if text in held_out else TRAIN


def _order(text: bytes, seed: int) -> bytes:
    """A pseudo-random order that depends only on the texts."""
    return hashlib.blake2b(text, digest_size=8, key=seed.to_bytes(8, "little")).digest()
