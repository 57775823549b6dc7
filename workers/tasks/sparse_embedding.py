"""Sparse embedding: a weight for the tokens of the vocabulary that a text is about (SPLADE).

Column: `sparse_embedding` struct<indices: list<int32>, values: list<float32>>: token ids, ascending,
and their weights, which are above 0.

Parameter: `max_active_dims`, how many of the largest weights are kept; absent: all.

Weights are those of sentence-transformers' `SparseEncoder`: log(1 + relu(logit)) of a masked language
model, the largest (or the sum) over the row's tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import ComparableOutput, Encodings, LoadRequest
from headrace.tasks.sentence_files import Splade, splade_of
from workers.models.load import read_json
from workers.models.tokenizer import lower_case
from workers.tasks.transformer import TransformerTask

SPARSE = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])
# A token has a logit for each of some 30,000 tokens, 120 kB. Chosen: a batch has 60 MB of them.
BATCH_SHARE = 4


class SparseEmbedding(TransformerTask):
    """See the module."""

    task = "sparse-embedding"
    architecture = "ForMaskedLM"
    output = "token_logits"

    def auto_class(self) -> Any:
        from transformers import AutoModelForMaskedLM

        return AutoModelForMaskedLM

    def prepare(self, request: LoadRequest) -> None:
        self._splade = splade_of(partial(read_json, request.model_path), request.model_path)
        self._most = request.params.get("max_active_dims")
        if self._splade.lower_case:
            lower_case(self.tokenizer)

    def pool(self) -> Callable[[Any, Any], Any]:
        return partial(pooled, self._splade)

    def default_batch_tokens(self) -> int:
        """See `Task.default_batch_tokens`."""
        return super().default_batch_tokens() // BATCH_SHARE

    def columns(self) -> list[pa.Field]:
        return [pa.field("sparse_embedding", SPARSE)]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        weights = largest(self.numbers(batch, output), self._most)
        rows, indices = np.nonzero(weights > 0)
        ends = np.cumsum(np.bincount(rows, minlength=len(weights)))
        starts = pa.array(np.concatenate(([0], ends)), pa.int32())
        lists = [
            pa.ListArray.from_arrays(starts, pa.array(indices, pa.int32())),
            pa.ListArray.from_arrays(starts, pa.array(weights[rows, indices])),
        ]
        column = pa.StructArray.from_arrays(lists, fields=list(SPARSE))
        return pa.record_batch([column], schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `SupportsComparison.answers`."""
        return ComparableOutput("vectors", self.numbers(batch, output))


def pooled(splade: Splade, flat: Any, rows: Any) -> Any:
    """Weights `[rows, vocabulary]` from logits `[tokens, vocabulary]`, on the device.

    Source: sentence-transformers 6.2, sparse_encoder/modules/splade_pooling.py
    """
    import torch

    flat = flat.float()
    if splade.strategy == "max":
        # what follows is monotonic in the logit, so once per row is enough
        flat = torch.segment_reduce(flat, "max", lengths=rows.lengths, unsafe=True)
    flat = flat.relu().log1p()
    if splade.activation == "log1p_relu":
        flat = flat.log1p()
    if splade.strategy == "sum":
        flat = torch.segment_reduce(flat, "sum", lengths=rows.lengths, unsafe=True)
    return flat


def largest(weights: np.ndarray, most: int | None) -> np.ndarray:
    """The weights `[rows, width]` with all but the `most` largest of each row at 0."""
    if most is None or most >= weights.shape[1]:
        return weights
    kept = np.argpartition(weights, -most, axis=1)[:, -most:]
    found = np.zeros_like(weights)
    np.put_along_axis(found, kept, np.take_along_axis(weights, kept, axis=1), axis=1)
    return found
