"""The options of `headrace train`, and checks that they fit together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import ValidationError

from headrace.settings import Settings
from schemas.errors import ConfigError
from schemas.records.training import Distillation, Lora, ModelTask, Problem, Size, TrainingSpec


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `headrace train`."""

    label_column: str
    task: ModelTask = "text-classification"
    tokens_column: str | None = None
    """Of token classification: the tokens that the label column's tags belong to; None: spans."""
    base: str | None = None
    size: Size | None = None
    problem: Problem | None = None
    """None: decided by the labels."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    validation: str = "0.1"
    """A share of the texts, or a file of labelled rows."""
    balanced: bool = False
    lora: Lora | None = None
    teacher: str | None = None
    """An output whose scores are learned; gold labels only where `has_gold`."""
    has_gold: bool = True
    student_layers: int | None = None
    """Layers of the base that are kept; None: all, or with a teacher's own model half."""
    distilled: Mapping[str, float] = field(default_factory=dict)
    """Fields of `Distillation` that were given."""
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


_BOUNDS = partial(TrainingSpec, problem="single_label", label_column="label", labels=("a", "b"))
_OF_TEACHER = partial(Distillation, job="")


def check_options(settings: Settings, asked: Asked) -> None:
    """Check that the options fit together, and are within bounds.

    Raises:
        ConfigError: two of them do not.
    """
    if (asked.base is None) == (asked.size is None) and (asked.teacher is None or asked.base):
        raise ConfigError("a training needs --base MODEL, or --from-scratch with a --size")
    if asked.student_layers is not None and asked.size:
        raise ConfigError("--student-layers keeps layers of a base: from scratch --size says them")
    if asked.teacher is None and asked.distilled:
        raise ConfigError("--teacher-temperature and --gold-weight are for --teacher OUTPUT")
    if asked.teacher is not None and (
        asked.balanced
        or asked.problem not in (None, "single_label")
        or asked.task != "text-classification"
    ):
        raise ConfigError("--teacher is for text classification with one label per row, unweighted")
    for kind, given in ((_BOUNDS, asked.hyperparameters), (_OF_TEACHER, asked.distilled)):
        try:
            kind(**given)
        except ValidationError as error:
            first = error.errors()[0]
            option = str(first["loc"][0]).replace("_", "-")
            raise ConfigError(f"--{option} {first['input']}: {first['msg']}") from error
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
