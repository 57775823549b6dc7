"""A sweep's points, and which is the best."""

from __future__ import annotations

import pytest

from producers.training.asked import Asked
from producers.training.sweep import Point, best_of, points_of
from schemas.errors import ConfigError
from schemas.records.training import Lora
from tests.unit.training.made_result import made_result


def test_each_value_meets_each_other() -> None:
    points = points_of("learning_rate=2e-5,5e-5 seed=0,1,1")
    assert [p.words for p in points] == [
        "learning_rate=2e-05 seed=0", "learning_rate=2e-05 seed=1",
        "learning_rate=5e-05 seed=0", "learning_rate=5e-05 seed=1",
    ]  # fmt: skip
    assert points[0].folder == "learning_rate-2e-05_seed-0"
    assert len({p.folder for p in points}) == 4


@pytest.mark.parametrize(
    "text",
    ["", "rate=1", "seed", "seed=a", "seed=1.5", "seed=0 seed=1", "seed=", f"seed={','.join(map(str, range(201)))}"],
)  # fmt: skip
def test_what_is_no_sweep_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--sweep"):
        points_of(text)


def test_a_point_changes_its_settings_alone() -> None:
    asked = Asked("label", base="m", lora=Lora(rank=4, alpha=8), hyperparameters={"epochs": 2.0})
    found = Point({"learning_rate": 1e-3, "lora_rank": 8, "gold_weight": 1.0}).of(asked)
    assert found.hyperparameters == {"epochs": 2.0, "learning_rate": 1e-3}
    assert found.lora == Lora(rank=8, alpha=8)
    assert found.distilled == {"gold_weight": 1.0}
    with pytest.raises(ConfigError, match="--lora"):
        Point({"lora_rank": 8}).of(Asked("label", base="m"))


def test_the_first_of_equals_is_the_best() -> None:
    worse, good = (made_result(scores={"macro_f1": f1}) for f1 in (0.5, 0.8))
    assert best_of([worse, None, good, good]) == 2
    assert best_of([None]) is None
    assert best_of([made_result(scores={})]) is None
