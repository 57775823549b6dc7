"""Text ranking: how well a passage answers a query, by a cross-encoder that reads both at once.

Column: `score` float32, higher is better.

The text is the query and the second text the passage. Scores are those of sentence-transformers'
`CrossEncoder.predict`: the activation that the model's files name, else a sigmoid.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa

from headrace.tasks.contract import ComparableOutput, Encodings, LoadRequest
from headrace.tasks.sentence_files import scoring_of
from schemas.errors import ModelError
from workers.models.load import read_json
from workers.models.tokenizer import lower_case
from workers.tasks.text_classification import activate, activation_of
from workers.tasks.transformer import TransformerTask


class TextRanking(TransformerTask):
    """See the module."""

    task = "text-ranking"
    architecture = "ForSequenceClassification"
    output = "sequence"
    empty_is_a_text = True

    def auto_class(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def prepare(self, request: LoadRequest) -> None:
        read = partial(read_json, request.model_path)
        asked = scoring_of(read, self.config.to_dict(), request.model_path)
        if asked.lower_case:
            lower_case(self.tokenizer)
        # a cross-encoder does not look at the problem type, as the pipeline of labels does
        self._named = asked.activation or "Sigmoid"

    def check_width(self, request: LoadRequest) -> None:
        if self.width != 1:
            raise ModelError(
                f"{request.model_path} gives {self.width} numbers for a pair and text-ranking needs "
                "one score: use text-classification with --text-pair-column"
            )
        self._activation = activation_of(self.config, None, self._named)

    def columns(self) -> list[pa.Field]:
        return [pa.field("score", pa.float32())]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        scores = activate(self.numbers(batch, output), self._activation)[:, 0]
        return pa.record_batch([pa.array(scores)], schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `SupportsComparison.answers`."""
        return ComparableOutput("values", activate(self.numbers(batch, output), self._activation))
