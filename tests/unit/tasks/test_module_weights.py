"""Weights of the modules after the pooling are looked at before anything is queued, as the model's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.storage.local import LocalStore
from producers.models.reference import resolve_model
from schemas.errors import ModelError
from tests.unit.tasks.folder_edits import NORM, dense, noise, ours, theirs
from tests.unit.tasks.sentence_folder import WIDTH, Edit, both, copies, module
from tests.unit.tiny_models import TinyModels

Make = Callable[[Edit | None], Path]
NAN = float("nan")
SIZES = {"in_features": WIDTH, "out_features": 12}


@pytest.fixture
def make(tiny: TinyModels, tmp_path: Path) -> Make:
    return copies(tiny, tmp_path)


def resolve(folder: Path) -> Any:
    return resolve_model(str(folder), None, "feature-extraction", LocalStore, params={})


def spoiled(weights: torch.Tensor, value: float = NAN) -> torch.Tensor:
    found = weights.clone()
    found.view(-1)[-1] = value
    return found


@pytest.mark.parametrize(
    "edit",
    [
        module("Dense", "2_Dense", SIZES, linear__weight=spoiled(noise(12, WIDTH)), linear__bias=noise(12)),
        module("Dense", "2_Dense", SIZES, linear__weight=noise(12, WIDTH),
               linear__bias=spoiled(noise(12), -torch.inf)),
        module("LayerNorm", "2_Norm", {"dimension": WIDTH}, **NORM | {"norm__bias": spoiled(NORM["norm__bias"])}),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_on_both_sides(edit: Edit, make: Make) -> None:
    folder = make(edit)
    for look in (resolve, ours):
        with pytest.raises(ModelError, match=r"module: its weights hold NaN or infinity"):
            look(folder)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (module("Dense", "2_Dense", SIZES, linear__weight=torch.zeros(12, WIDTH), linear__bias=noise(12)),
         "linear.weight"),
        (module("LayerNorm", "2_Norm", {"dimension": WIDTH}, **NORM | {"norm__weight": torch.zeros(WIDTH)}),
         "norm.weight"),
    ],
)  # fmt: skip
def test_weights_that_give_each_row_the_same_vector_are_refused(
    edit: Edit, name: str, make: Make
) -> None:
    with pytest.raises(ModelError, match=f"{name} is all zeros .*the same answer"):
        resolve(make(edit))


WEIGHT, BIAS = noise(12, WIDTH), noise(12)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (module("Dense", "2_Dense", {}, linear__bias=BIAS), "has no weights linear.weight"),
        (module("LayerNorm", "2_Norm", {"dimension": WIDTH}, norm__weight=NORM["norm__weight"]),
         "has no weights norm.bias"),
        (module("Dense", "2_Dense", SIZES, linear__weight=WEIGHT, linear__bias=noise(8)),
         r"linear.bias is \[8\], and fits not \[12, 32\]"),
        (module("Dense", "2_Dense", SIZES, linear__weight=WEIGHT, linear__bias=BIAS, scale=noise(12)),
         "has weights scale, which such a module does not have"),
        (module("Dense", "2_Dense", SIZES | {"use_residual": True}, linear__weight=WEIGHT, linear__bias=BIAS),
         "has no residual.weight, from 32 to 12"),
        (module("Dense", "2_Dense", SIZES | {"use_residual": True}, linear__weight=WEIGHT, linear__bias=BIAS,
                residual__weight=noise(8, WIDTH)), r"residual.weight is \[8, 32\]"),
        (module("Dense", "2_Dense", {"in_features": 8, "out_features": 12}, linear__weight=noise(12, 8),
                linear__bias=BIAS), "takes vectors of 8 numbers, and gets 32"),
        (both(dense(), module("LayerNorm", "3_Norm", {"dimension": WIDTH}, **NORM)),
         "takes vectors of 32 numbers, and gets 12"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_as_by_the_library(
    edit: Edit, why: str, make: Make
) -> None:
    folder = make(edit)
    with pytest.raises(ModelError, match=why):
        resolve(folder)
    with pytest.raises(Exception):  # noqa: B017, PT011 — of whatever class
        theirs(folder)


def test_zeros_behind_which_the_input_is_added_are_usual(make: Make) -> None:
    square = {"in_features": WIDTH, "out_features": WIDTH, "use_residual": True}
    edit = module("Dense", "2_Dense", square,
                  linear__weight=torch.zeros(WIDTH, WIDTH), linear__bias=torch.zeros(WIDTH))  # fmt: skip
    folder = make(both(edit, module("LayerNorm", "3_Norm", {"dimension": WIDTH}, **NORM)))
    assert resolve(folder).warnings == ()
    assert ours(folder) == pytest.approx(theirs(folder), abs=2e-5)
