"""Feature extraction: one vector per row.

Column: `embedding` list<float32>, each of the model's width. Not a fixed-size list: an error row is
null, and pyarrow 20 to 24 cannot write a null in such a list, and most readers cannot read it.

Parameters:

- `pooling`: one of sentence-transformers' six (`mean`, `cls`, …), or `auto`: as the model's own
  sentence-transformers files say (`modules.json`), else the mean
- `normalize`: true, false; absent: as those files say, else false
- `prompt_name`: the prompt of the model's own that goes before each text; absent: its default
- `truncate_dim`: numbers of a vector that are kept; absent: as those files say, else all

What else those files ask for is applied, or refused: `headrace.tasks.folder_settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import (
    ComparableOutput,
    Encodings,
    LoadRequest,
)
from headrace.tasks.sentence_files import recipe_of
from schemas.errors import ConfigError
from workers.models.load import read_json
from workers.models.tokenizer import lower_case, prompt_tokens
from workers.tasks.pooling import load_steps, pooler
from workers.tasks.transformer import TransformerTask

ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
"""Model types of which only the encoder is run (sentence-t5, gtr)."""


class FeatureExtraction(TransformerTask):
    """See the module."""

    task = "feature-extraction"
    architecture = None
    output = "hidden"
    unused_weights = ("pooler.",)

    def load(self, request: LoadRequest) -> None:
        read = partial(read_json, request.model_path)
        self.recipe = recipe_of(read, request.params, request.model_path)
        self._steps = load_steps(self.recipe, request)
        inner = Path(request.model_path) / self.recipe.transformer
        super().load(replace(request, model_path=str(inner)))
        dim = request.params.get("truncate_dim")
        if dim is not None and dim > self.width:
            raise ConfigError(
                f"--truncate-dim {dim}: the model's vectors have {self.width} numbers"
            )

    def prepare(self, request: LoadRequest) -> None:
        if self.recipe.lower_case:
            lower_case(self.tokenizer)

    def auto_class(self) -> Any:
        import transformers

        return getattr(transformers, ENCODERS.get(self.config.model_type, "AutoModel"))

    def pool(self) -> Callable[[Any, Any], Any]:
        recipe = self.recipe
        skipped = 0 if recipe.include_prompt else prompt_tokens(self.tokenizer, recipe.prompt)
        return pooler(recipe, self._steps, skipped)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`; the prompt is part of each text, and its tokens count."""
        prompt = self.recipe.prompt
        return super().encode([prompt + text for text in texts] if prompt else texts, pairs)

    def columns(self) -> list[pa.Field]:
        return [pa.field("embedding", pa.list_(pa.float32()))]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        vectors = self.numbers(batch, output)
        rows, width = vectors.shape
        starts = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
        column = pa.ListArray.from_arrays(starts, pa.array(vectors.reshape(-1)))
        return pa.record_batch([column], schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `SupportsComparison.answers`."""
        return ComparableOutput("vectors", self.numbers(batch, output))
