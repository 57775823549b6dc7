"""A sweep: several trainings that differ in their settings, and which came out best. Pure.

`learning_rate=2e-5,5e-5 seed=0,1` is four points: each value of the one with each of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from producers.training.asked import Asked
from schemas.errors import ConfigError
from schemas.records.training import BEST_BY, TrainingResult

MOST_POINTS = 200
"""Chosen: more is probably a mistake, since each point is a whole training."""
OF_TRAINING: Mapping[str, type] = {
    "learning_rate": float, "epochs": float, "batch_tokens": int, "max_length": int,
    "warmup": float, "weight_decay": float, "early_stopping": int, "evaluations": int, "seed": int,
}  # fmt: skip
OF_LORA: Mapping[str, type] = {"lora_rank": int, "lora_alpha": int}
OF_TEACHER: Mapping[str, type] = {"teacher_temperature": float, "gold_weight": float}
KINDS = {**OF_TRAINING, **OF_LORA, **OF_TEACHER}


@dataclass(frozen=True, slots=True)
class Point:
    """The settings of one training."""

    values: Mapping[str, float]

    @property
    def folder(self) -> str:
        """The folder of its output within the sweep's; the same for the same settings."""
        return "_".join(f"{name}-{value:g}" for name, value in self.values.items())

    @property
    def words(self) -> str:
        return " ".join(f"{name}={value:g}" for name, value in self.values.items())

    def of(self, asked: Asked) -> Asked:
        """The training that is asked for at this point.

        Raises:
            ConfigError: a setting of LoRA or of a teacher without one.
        """
        trained = {n: v for n, v in self.values.items() if n in OF_TRAINING}
        told = {n.removeprefix("teacher_"): v for n, v in self.values.items() if n in OF_TEACHER}
        adapted = {n.removeprefix("lora_"): v for n, v in self.values.items() if n in OF_LORA}
        lora = asked.lora
        if adapted and lora is None:
            raise ConfigError("--sweep with lora_rank or lora_alpha is for --lora")
        if lora is not None and adapted:
            lora = type(lora).model_validate({**lora.model_dump(), **adapted})
        return replace(
            asked, lora=lora, hyperparameters={**asked.hyperparameters, **trained},
            distilled={**asked.distilled, **told},
        )  # fmt: skip


def points_of(text: str) -> list[Point]:
    """Every point of a sweep, in order.

    Raises:
        ConfigError: it is not of the form NAME=VALUE,VALUE NAME=VALUE; a name that is no setting
            of a training, or occurs twice; a value that is no number; too many points.
    """
    axes: dict[str, list[float]] = {}
    for word in text.split():
        name, equals, values = word.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in KINDS or name in axes:
            raise ConfigError(
                f"--sweep {word}: write NAME=VALUE,VALUE with each of these once: {', '.join(KINDS)}"
            )
        axes[name] = list(dict.fromkeys(_number(name, value) for value in values.split(",")))
    points = [Point(dict(zip(axes, chosen, strict=True))) for chosen in product(*axes.values())]
    if not axes or len(points) > MOST_POINTS:
        raise ConfigError(f"--sweep has {len(points) if axes else 0} points, of 1 to {MOST_POINTS}")
    return points


def _number(name: str, text: str) -> float:
    try:
        found: float = KINDS[name](text)
    except ValueError as error:
        raise ConfigError(f"--sweep {name}={text}: not a number of its kind") from error
    return found


def score_of(result: TrainingResult) -> float:
    """The metric by which its best checkpoint was chosen; larger is better."""
    return result.scores.get(BEST_BY[result.spec.problem], float("-inf"))


def best_of(results: Iterable[TrainingResult | None]) -> int | None:
    """The place of the best one, the first of equals; None where no training has ended."""
    scored = [(score_of(r), -i) for i, r in enumerate(results) if r is not None and r.scores]
    return -max(scored)[1] if scored else None


def as_record(point: Point, result: TrainingResult | None, model: str, code: int) -> dict[str, Any]:
    """A point as `sweep.json` and `--json` have it."""
    found: dict[str, Any] = {"settings": dict(point.values), "exit_code": int(code)}
    if result is not None:
        found |= {
            "model": model, "scores": result.scores, "epochs": result.epochs,
            "seconds": result.seconds,
        }  # fmt: skip
    return found
