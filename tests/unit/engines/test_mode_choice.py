"""The way of running a model is the first whose batches agree with single rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from headrace.tasks.contract import Encodings
from schemas.errors import ModelError
from workers.engines.packed.mode_choice import Mode, ModeChoice, RowsAlone

CONFIG = SimpleNamespace(model_type="made-up")
MODES: tuple[Mode, ...] = ("packed", "padded", "equal", "alone")
PROBE = Encodings(
    ids=np.array([5, 6, 7], dtype=np.int32),
    offsets=np.array([0, 2, 3]),
    truncated=np.zeros(2, dtype=bool),
)


class Runs:
    """Gives each row its first token; in some ways it is off by so much, or cannot run."""

    def __init__(self, **off: float) -> None:
        self.off = off
        self.mode: Mode = "alone"

    def set_mode(self, mode: Mode) -> None:
        self.mode = mode

    def __call__(self, batch: Encodings) -> np.ndarray:
        off = self.off.get(self.mode, 0.0)
        if np.isinf(off):
            raise TypeError("this model takes no mask")
        return batch.ids[batch.offsets[:-1]].astype(np.float32)[:, None] + off


def choose(runs: Runs) -> Mode:
    alone = RowsAlone([(PROBE, np.array([[5.0], [7.0]]))], all_tried=True)
    choice = ModeChoice(runs, CONFIG, "sequence", "cpu", tolerance=1e-3)
    return choice.first_right(MODES, alone)


@pytest.mark.parametrize(
    ("off", "chosen"),
    [
        ({}, "packed"),
        ({"packed": 1e-4}, "packed"),
        ({"packed": 0.5}, "padded"),
        ({"packed": 0.5, "padded": np.inf}, "equal"),
        ({"packed": np.nan, "padded": np.inf, "equal": 0.5}, "alone"),
    ],
)
def test_the_first_way_that_agrees_is_chosen_and_stays_set(
    off: dict[str, float], chosen: Mode
) -> None:
    runs = Runs(**off)
    assert choose(runs) == chosen
    assert runs.mode == chosen


def test_a_model_that_draws_by_chance_is_refused() -> None:
    with pytest.raises(ModelError, match="the same row other numbers each time"):
        choose(Runs(**dict.fromkeys(MODES, 0.5)))


def test_the_longest_row_and_the_width_are_those_of_the_probes() -> None:
    alone = RowsAlone([(PROBE, np.zeros((2, 4)))], all_tried=False)
    assert (alone.width, alone.longest) == (4, 2)
