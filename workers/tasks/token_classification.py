"""Token classification: the entities of each row, with character offsets into its text.

Columns:

- `entities` list<struct<label: string, start: int32, end: int32, score: float32, text: string>>:
  in the order of the text; `text` is the row's own text from `start` to `end`, as it was written
- `cut_word` bool: truncation fell inside a word, so that the last entity may lack its end

Parameters: `aggregation`, how tokens become entities: `none` (each token by itself, labels as the
model has them, `B-PER`), `simple`, `first`, `average` or `max`. The grouping is done by
transformers' own `TokenClassificationPipeline`, whose answers these are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import (
    ComparableOutput,
    Encodings,
    LoadRequest,
)
from headrace.tasks.sentence_files import check_adapter
from schemas.errors import ConfigError, ModelError
from workers.models.load import check_labels, read_json
from workers.tasks.transformer import TransformerTask

AGGREGATIONS = ("none", "simple", "first", "average", "max")
ENTITY = pa.struct(
    [
        ("label", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("score", pa.float32()),
        ("text", pa.string()),
    ]
)
IGNORED = "O"


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """What `decode` needs of a row: its text, and the offsets of its tokens."""

    text: str
    offsets: list[tuple[int, int]]
    special: list[int]
    cut_word: bool


class TokenClassification(TransformerTask):
    """See the module."""

    task = "token-classification"
    architecture = "ForTokenClassification"
    output = "tokens"

    def auto_class(self) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification

    def prepare(self, request: LoadRequest) -> None:
        check_adapter(partial(read_json, request.model_path), request.model_path)
        self.aggregation = request.params.get("aggregation", "simple")
        if self.aggregation not in AGGREGATIONS:
            raise ConfigError(
                f"aggregation {self.aggregation!r} is not one of {', '.join(AGGREGATIONS)}"
            )
        if request.params.get("text_pairs"):
            raise ModelError("token-classification takes one text a row, not a pair")
        self._group = _grouper(self.tokenizer, self.config, self.aggregation)
        ignored = [i for i, label in self.config.id2label.items() if label == IGNORED]
        self._ignored = ignored[0] if ignored else None

    def check_width(self, request: LoadRequest) -> None:
        check_labels(request, self.config, self.width)

    def extra(self) -> Callable[[str, Any], TokenSpans]:
        from_left = self.tokenizer.truncation_side == "left"
        return lambda text, encoding: spans_of(text, encoding, from_left)

    def columns(self) -> list[pa.Field]:
        return [pa.field("entities", pa.list_(ENTITY)), pa.field("cut_word", pa.bool_())]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        scores = _softmax(self.numbers(batch, output))
        best = scores.argmax(axis=1)
        entities, cut = [], []
        for i, spans in enumerate(batch.extra or ()):
            row = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
            quiet = self._ignored is not None and bool((best[row] == self._ignored).all())
            # most rows have no entity, and grouping is Python, token by token
            entities.append([] if quiet else self._entities(spans, batch.ids[row], scores[row]))
            cut.append(spans.cut_word)
        arrays = [pa.array(entities, pa.list_(ENTITY)), pa.array(cut, pa.bool_())]
        return pa.record_batch(arrays, schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `Comparable.answers`; tokens that stand for no text (`[CLS]`) are left out."""
        special = np.concatenate([np.asarray(s.special, dtype=bool) for s in batch.extra or ()])
        scores = _softmax(self.numbers(batch, output))
        return ComparableOutput("labels", scores[~special], quiet=self._ignored)

    def _entities(
        self, spans: TokenSpans, ids: np.ndarray, scores: np.ndarray
    ) -> list[dict[str, Any]]:
        return [
            {
                "label": label,
                "start": found["start"],
                "end": found["end"],
                "score": float(found["score"]),
                "text": spans.text[found["start"] : found["end"]],
            }
            for found in self._group(spans, ids, scores)
            if (label := found.get("entity_group", found.get("entity"))) != IGNORED
        ]


def spans_of(text: str, encoding: Any, truncated_from_left: bool = False) -> TokenSpans:
    """The offsets of an encoding's tokens in the text, and whether truncation cut a word."""
    return TokenSpans(
        text=text,
        offsets=encoding.offsets or [(0, 0)],
        special=encoding.special_tokens_mask or [1],
        cut_word=_cuts_a_word(encoding, truncated_from_left),
    )


def _cuts_a_word(encoding: Any, from_left: bool) -> bool:
    """Whether the token at the edge and its dropped neighbour belong to one word."""
    if not encoding.overflowing:
        return False
    kept = [w for w in encoding.word_ids if w is not None]
    # the pieces that were dropped, in the order of the text
    dropped = [w for piece in encoding.overflowing for w in piece.word_ids if w is not None]
    if not kept or not dropped:
        return False
    return bool(kept[0] == max(dropped)) if from_left else bool(kept[-1] == min(dropped))


def _softmax(logits: np.ndarray) -> np.ndarray:
    if not len(logits):
        return logits
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _grouper(
    tokenizer: Any, config: Any, aggregation: str
) -> Callable[[TokenSpans, np.ndarray, np.ndarray], list[dict[str, Any]]]:
    """transformers' own way from token scores to entities, without the rest of its pipeline."""
    from types import SimpleNamespace

    from transformers import TokenClassificationPipeline
    from transformers.pipelines.token_classification import AggregationStrategy

    strategy = AggregationStrategy(aggregation)
    # Its constructor moves a model to a device; its grouping methods read only these two attributes
    # (transformers 5.23). The parity tests would detect a change.
    pipeline = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer = tokenizer
    pipeline.model = SimpleNamespace(config=config)
    # it says so for each token of a tokenizer without words (RoBERTa's, say)
    warnings.filterwarnings("ignore", message="Tokenizer does not support real words")

    def group(spans: TokenSpans, ids: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
        found = pipeline.gather_pre_entities(
            spans.text, ids, scores, spans.offsets, np.asarray(spans.special), strategy
        )
        return list(pipeline.aggregate(found, strategy))

    return group
