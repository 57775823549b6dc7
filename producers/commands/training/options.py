"""The options of `headrace train` as what is asked for."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from producers.commands.quality.evaluate import read_map
from producers.training.asked import Asked
from schemas.errors import ConfigError
from schemas.records.training import Lora, ModelTask, Size

_SIZE = re.compile(r"(\d+)x(\d+)(?:x(\d+))?")
_PROBLEMS = {
    "single-label": "single_label",
    "multi-label": "multi_label",
    "regression": "regression",
}


def asked_of(
    *,
    label_column: str,
    has_gold: bool,
    teacher: str | None,
    student_layers: int | None,
    teacher_temperature: float | None,
    gold_weight: float | None,
    task: ModelTask,
    tokens_column: str | None,
    base: str | None,
    size: str | None,
    problem: str | None,
    renamed: str | None,
    validation: str,
    balanced: bool,
    lora: Lora | None,
    hyperparameters: dict[str, Any],
) -> Asked:
    """What the command line says.

    Raises:
        ConfigError: a size or a map that cannot be read.
    """
    distilled = {"temperature": teacher_temperature, "gold_weight": gold_weight}
    return Asked(
        has_gold=has_gold, teacher=teacher, student_layers=student_layers,
        distilled={name: value for name, value in distilled.items() if value is not None},
        label_column=label_column, task=task, tokens_column=tokens_column, base=base,
        size=None if size is None else parse_size(size),
        problem=None if problem is None else _PROBLEMS[problem],  # type: ignore[arg-type]
        renamed=read_map(renamed), validation=validation, balanced=balanced,
        lora=lora,
        hyperparameters=hyperparameters,
    )  # fmt: skip


def lora_of(is_on: bool, rank: int | None, alpha: int | None, targets: str | None) -> Lora | None:
    """The adapters that the command line asks for.

    Raises:
        ConfigError: options of them without `--lora`, or out of bounds.
    """
    given: dict[str, Any] = {"rank": rank, "alpha": alpha}
    given = {name: value for name, value in given.items() if value is not None}
    if targets is not None:
        given["targets"] = tuple(filter(None, (t.strip() for t in targets.split(","))))
    if not is_on:
        if given:
            raise ConfigError(f"--lora-{next(iter(given))} is for --lora")
        return None
    try:
        lora = Lora(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--lora-{first['loc'][0]}: {first['msg']}") from error
    return lora if "alpha" in given else lora.model_copy(update={"alpha": 2 * lora.rank})


def parse_size(text: str) -> Size:
    """`2x128x4000` as layers, width and vocabulary; the vocabulary may be left out.

    Raises:
        ConfigError: it is not of that form, or not within bounds.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"--size {text}: write layers x width x vocabulary, e.g. 2x128x4000")
    names = ("layers", "width", "vocabulary")
    given = {n: int(v) for n, v in zip(names, match.groups(), strict=True) if v is not None}
    try:
        size = Size(**given)
    except ValidationError as error:
        raise ConfigError(f"--size {text}: {error.errors()[0]['msg']}") from error
    if size.width % size.heads:
        raise ConfigError(
            f"--size {text}: the width is a multiple of {32 if size.width < 256 else 64}"
        )
    return size
