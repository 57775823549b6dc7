"""Checks the weights of the modules that a sentence-transformers folder has after the pooling. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.tasks.sentence_files import Module, Recipe
from producers.models.checks import PICKLED, WHOLE
from producers.models.model_files import ModelFiles
from producers.models.safetensors_header import Header, read_header
from producers.models.weight_values import PIECES, READ, sample
from schemas.errors import ModelError

NAMES: Mapping[str, tuple[str, ...]] = {
    "Dense": ("linear.weight", "linear.bias", "residual.weight"),
    "LayerNorm": ("norm.weight", "norm.bias"),
}
"""Weights of each kind of module, that without which it does nothing first."""
WIDTH: Mapping[str, str] = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra", "deberta-v2", "modernbert"),
        "hidden_size",
    ),
    "distilbert": "dim",
    **dict.fromkeys(("t5", "mt5"), "d_model"),
}  # fmt: skip
"""Families whose token vectors are as wide as config.json says, and the setting that says it."""


def check_modules(
    files: ModelFiles, found: object, allow_pickle: bool, config: Mapping[str, Any]
) -> None:
    """Check that each module after the pooling has its weights, where `found` is a `Recipe`.

    `config` is the transformer's.

    Raises:
        ModelError: one has none that may be loaded, or others than its configuration says; weights
            that do not fit what comes in; NaN, infinity, or nothing but zeros in them.
    """
    if not isinstance(found, Recipe):
        return
    width = _first_width(config, found)
    for module in found.after:
        if module.kind == "Normalize":
            continue
        header = _header(files, module, allow_pickle)
        if header is not None:
            where = f"model {files.where}: {module.path}, a {module.kind} module:"
            _check_shapes(module, header, width, where)
            _check_numbers(files, module, header, where)
            width = header.shapes[NAMES[module.kind][0]][0]


def _first_width(config: Mapping[str, Any], recipe: Recipe) -> int | None:
    said = config.get(WIDTH.get(str(config.get("model_type")), ""))
    return said * len(recipe.pooling) if isinstance(said, int) else None


def _header(files: ModelFiles, module: Module, allow_pickle: bool) -> Header | None:
    """Of the module's weights; None if they are pickled."""
    safe, pickled = (f"{module.path}/{name}" for name in (WHOLE, PICKLED))
    if safe not in files.sizes():
        if allow_pickle and pickled in files.sizes():
            return None
        raise ModelError(
            f"model {files.where}: {module.path}, a {module.kind} module, has no {WHOLE}"
            + (", and its pickle needs --allow-pickle" if pickled in files.sizes() else "")
        )
    with files.open(safe) as file:
        header = read_header(file)
    if header is None or files.sizes()[safe] < header.bytes_needed:
        raise ModelError(
            f"model {files.where}: {module.path}, a {module.kind} module: it is damaged; copy it again"
        )
    return header


def _check_shapes(module: Module, header: Header, width: int | None, where: str) -> None:
    shapes, known = header.shapes, NAMES[module.kind]
    if why := module.misfit(shapes):
        raise ModelError(f"{where} {why}")
    needed = known if module.kind == "LayerNorm" else known[:1]
    if lacking := [name for name in needed if name not in shapes]:
        raise ModelError(f"{where} it has no weights {lacking[0]}")
    if more := sorted(set(shapes).difference(known)):
        raise ModelError(f"{where} it has weights {more[0]}, which such a module does not have")
    main = shapes[known[0]]
    if width is not None and main[-1] != width:
        raise ModelError(f"{where} it takes vectors of {main[-1]} numbers, and gets {width}")
    for name in set(known[1:]).intersection(shapes):
        wanted = main if name == "residual.weight" else main[:1]
        if shapes[name] != wanted:
            raise ModelError(f"{where} {name} is {list(shapes[name])}, and fits not {list(main)}")
    changes_width = module.kind == "Dense" and main[0] != main[1]
    if module.residual and changes_width != ("residual.weight" in shapes):
        said = "has no" if changes_width else "has a needless"
        raise ModelError(f"{where} it {said} residual.weight, from {main[-1]} to {main[0]} numbers")


def _check_numbers(files: ModelFiles, module: Module, header: Header, where: str) -> None:
    with files.open(f"{module.path}/{WHOLE}") as file:
        seen = {
            name: sample(file, place, PIECES)
            for name, place in header.places.items()
            if place.dtype in READ
        }
    if bad := sorted(name for name, found in seen.items() if found.not_finite):
        raise ModelError(
            f"{where} its weights hold NaN or infinity ({_few(bad)}): no row would have an answer; "
            "the training that made them failed, take an earlier checkpoint"
        )
    main = NAMES[module.kind][0]
    if main in seen and seen[main].zeros and not module.residual:
        raise ModelError(
            f"{where} {main} is all zeros in what was read of it: all rows would have the same "
            "answer; was the model saved before it was trained?"
        )


def _few(names: Iterable[str]) -> str:
    first, *more = names
    return f"{first}{', …' if more else ''}"
