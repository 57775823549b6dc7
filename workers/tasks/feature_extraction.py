"""Feature extraction: one vector a row.

Column: `embedding` list<float32>, each of the model's width. Not a fixed-size list: an error row is
null, and pyarrow 20 to 24 cannot write, most readers not read, a null in one.

Parameters:

- `pooling`: `mean` of the row's tokens, `cls` (its first token), or `auto`: as the model's own
  sentence-transformers files say (`modules.json`, `1_Pooling/config.json`), else the mean
- `normalize`: true, false; absent: as those files say, else false
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import (
    ComparableOutput,
    Encodings,
    LoadRequest,
)
from schemas.errors import ConfigError, ModelError
from workers.models.load import read_json
from workers.tasks.transformer import TransformerTask

POOLINGS = ("auto", "mean", "cls")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How token vectors become a row's vector."""

    pooling: str = "mean"
    normalize: bool = False
    transformer: str = ""
    """The folder of the transformer inside the model's folder; empty: the folder itself."""


class FeatureExtraction(TransformerTask):
    """See the module."""

    task = "feature-extraction"
    architecture = None
    output = "hidden"
    unused_weights = ("pooler.",)

    def load(self, request: LoadRequest) -> None:
        self.recipe = recipe_of(request)
        inner = Path(request.model_path) / self.recipe.transformer
        super().load(replace(request, model_path=str(inner)))

    def auto_class(self) -> Any:
        from transformers import AutoModel

        return AutoModel

    def pool(self) -> Callable[[Any, Any], Any]:
        return _pooler(self.recipe)

    def columns(self) -> list[pa.Field]:
        return [pa.field("embedding", pa.list_(pa.float32()))]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        vectors = self.numbers(batch, output)
        rows, width = vectors.shape
        starts = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
        column = pa.ListArray.from_arrays(starts, pa.array(vectors.reshape(-1)))
        return pa.record_batch([column], schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `Comparable.answers`."""
        return ComparableOutput("vectors", self.numbers(batch, output))


def recipe_of(request: LoadRequest) -> Recipe:
    """What the parameters say, and for what they leave open, the model's own files.

    Raises:
        ConfigError: a pooling that is none of ours.
        ModelError: the model's files ask for something that headrace cannot do.
    """
    pooling = request.params.get("pooling", "auto")
    normalize = request.params.get("normalize")
    if pooling not in POOLINGS:
        raise ConfigError(f"pooling {pooling!r} is not one of {', '.join(POOLINGS)}")
    own = _own_recipe(request.model_path, needs_pooling=pooling == "auto")
    return replace(
        own,
        pooling=own.pooling if pooling == "auto" else pooling,
        normalize=own.normalize if normalize is None else bool(normalize),
    )


def _own_recipe(folder: str, *, needs_pooling: bool) -> Recipe:
    """What the sentence-transformers files of a model say; the default where there are none."""
    recipe = Recipe()
    for module in read_json(folder, "modules.json") or []:
        kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], str(module.get("path", ""))
        if kind == "Transformer":
            recipe = replace(recipe, transformer=path)
        elif kind == "Normalize":
            recipe = replace(recipe, normalize=True)
        elif kind == "Pooling":
            if needs_pooling:
                recipe = replace(recipe, pooling=_own_pooling(folder, path))
        elif needs_pooling:
            raise ModelError(
                f"{folder}/modules.json asks for a {kind} module, which headrace does not have; "
                "--pooling mean or cls leaves it out, and gives other vectors"
            )
    return recipe


def _own_pooling(folder: str, path: str) -> str:
    settings = read_json(Path(folder) / path, "config.json") or {}
    # sentence-transformers 5 writes one name, those before it a flag for each
    asked = {settings["pooling_mode"]} if isinstance(settings.get("pooling_mode"), str) else {
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, on in settings.items()
        if key.startswith("pooling_mode_") and on
    }  # fmt: skip
    if asked in ({"mean"}, {"cls"}):
        return str(asked.pop())
    named = ", ".join(sorted(asked)) or "none"
    raise ModelError(
        f"{folder}/{path}/config.json asks for pooling {named}, and headrace has mean and cls; "
        "--pooling chooses one of these, and gives other vectors"
    )


def _pooler(recipe: Recipe) -> Callable[[Any, Any], Any]:
    def pool(flat: Any, rows: Any) -> Any:
        from torch.nn.functional import normalize

        from workers.engines.packed.families import mean_of

        pooled = mean_of(flat, rows) if recipe.pooling == "mean" else flat[rows.first].float()
        return normalize(pooled) if recipe.normalize else pooled

    return pool
