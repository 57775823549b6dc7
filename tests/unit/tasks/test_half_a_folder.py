"""A sentence-transformers folder that lacks a file or contradicts itself: refused, as by the library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.storage.local import LocalStore
from headrace.tasks import folder_settings as table
from producers.models.reference import resolve_model
from schemas.errors import ModelError
from tests.unit.tasks.sentence_folder import Edit, both, copies, module, write
from tests.unit.tasks.test_folder_settings import NORM, dense, noise, ours, theirs
from tests.unit.tiny_models import TinyModels

Make = Callable[[Edit | None], Path]


@pytest.fixture
def make(tiny: TinyModels, tmp_path: Path) -> Make:
    return copies(tiny, tmp_path)


def unlink(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (unlink("1_Pooling/config.json"), "1_Pooling/config.json, of a module.*not there"),
        (both(dense(), unlink("2_Dense/config.json")), "2_Dense/config.json, of a module"),
        (lambda folder: write(folder, table.MODULES, []), "no Pooling"),
        (lambda folder: write(folder, table.MODULES, [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}
        ]), "no Pooling"),
        (dense(out_features=4), r"weight is \[12, 32\], and its config.json says \[4, 32\]"),
        (dense(bias=False), "sets bias to False"),
        (module("LayerNorm", "2_Norm", {"dimension": 8}, **NORM), r"says \[8\]"),
    ],
)  # fmt: skip
def test_half_a_folder_is_refused_on_both_sides_and_by_the_library(
    edit: Edit, why: str, make: Make
) -> None:
    folder = make(edit)
    with pytest.raises(ModelError, match=why):
        ours(folder)
    with pytest.raises(ModelError, match=why):
        resolve_model(str(folder), None, "feature-extraction", LocalStore, params={})
    with pytest.raises(Exception):  # noqa: B017, PT011 — of whatever class
        theirs(folder)


def test_a_module_for_vectors_of_another_width_is_named(make: Make) -> None:
    narrow = {"in_features": 8, "out_features": 4, "bias": False}
    edit = module("Dense", "2_Dense", narrow, linear__weight=noise(4, 8))
    with pytest.raises(ModelError, match="takes vectors of 8 numbers, and gets 32"):
        ours(make(edit))
