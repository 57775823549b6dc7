"""Question answering: the words of the context, the row's text, that answer a question.

A context that is longer than the model becomes several items, the question with each window of it.

Columns:

- `answer` string: the row's own text from `start` to `end`; empty where the model sees no answer
- `score` float32; `start` and `end` int32, in characters of the context
- `null_score` float32: how likely the model finds it that there is no answer
- `answers` list<struct<answer: string, score: float32, start: int32, end: int32>>: the best
  `top_k`, by falling score

Parameters: `question` or `question_column` (questions come as a second text), `top_k`,
`max_answer_len` (tokens), `stride`, `impossible`.

Answers are those of `QuestionAnsweringPipeline` of transformers 4.57, the last version that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, LoadRequest
from headrace.tasks.fan_out import FanOut
from headrace.tasks.items.questions import USUAL_LENGTH, stride_of
from headrace.tasks.sentence_files import check_adapter
from schemas.errors import InvalidRow, ModelError
from workers.models.load import read_json
from workers.models.question_encoder import QuestionEncoder, WindowTokens
from workers.tasks.transformer import ItemsTask

ANSWER = pa.struct(
    [("answer", pa.string()), ("score", pa.float32()), ("start", pa.int32()), ("end", pa.int32())]
)
SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("score", pa.float32())]))
LETTERS_PER_WINDOW = 1_000
"""About so many are new in a window of 384 tokens. Chosen, for a bound on memory."""


class QuestionAnswering(ItemsTask):
    """See the module."""

    task = "question-answering"
    architecture = "ForQuestionAnswering"
    output = "tokens"
    reads_whole_text = True

    def auto_class(self) -> Any:
        from transformers import AutoModelForQuestionAnswering

        return AutoModelForQuestionAnswering

    def prepare(self, request: LoadRequest) -> None:
        check_adapter(partial(read_json, request.model_path), request.model_path)
        params = request.params
        self._question: str | None = params.get("question")
        self._top_k = params.get("top_k") or 1
        self._longest = params.get("max_answer_len") or 15
        self._impossible = bool(params.get("impossible"))

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`."""
        super().load(request)
        if request.max_length is None:
            self.max_length = min(self.max_length, USUAL_LENGTH)
        self._items = QuestionEncoder(
            self.tokenizer, self.max_length, stride_of(request.params, self.max_length)
        )

    def check_width(self, request: LoadRequest) -> None:
        if self.width != 2:
            raise ModelError(
                f"{request.model_path} gives {self.width} numbers for a token, and "
                "question-answering needs two: start and end"
            )

    # -- rows to items

    def count_items(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """See `SupportsFanOut.count_items`."""
        return np.array([1 + len(text) // LETTERS_PER_WINDOW for text in texts], dtype=np.int64)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`; the question of each row is its second text, if there is no other.

        Raises:
            InvalidRow: a row has no question or no context, or its question is too long.
        """
        if self._question is not None:
            pairs = [self._question] * len(texts)
        if pairs is None:
            raise InvalidRow("there is no question")
        return self._items(pairs, texts)

    # -- items to rows

    def item_columns(self) -> list[pa.Field]:
        """See `SupportsFanOut.item_columns`."""
        return [pa.field("spans", SPANS), pa.field("null_score", pa.float32())]

    def columns(self) -> list[pa.Field]:
        return [
            *ANSWER,
            pa.field("null_score", pa.float32()),
            pa.field("answers", pa.list_(ANSWER)),
        ]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        logits = self.numbers(batch, output)
        count = self._top_k * 2 + 10  # some candidates become one answer
        spans, nulls = [], []
        for item, tokens in enumerate(batch.extra or ()):
            rows = logits[batch.offsets[item] : batch.offsets[item + 1]]
            found = best_spans(rows[:, 0], rows[:, 1], tokens.may_answer, count, self._longest)
            spans.append(list(_in_characters(found, tokens)))
            nulls.append(found.null_score)
        arrays = [pa.array(spans, SPANS), pa.array(nulls, pa.float32())]
        return pa.record_batch(arrays, schema=pa.schema(self.item_columns()))

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        """See `SupportsFanOut.join`."""
        spans, nulls = (column.to_pylist() for column in items.columns)
        rows = []
        for row, context in enumerate(fan.extra or ()):
            mine = fan.item_of[fan.starts[row] : fan.starts[row + 1]].tolist()
            null_score = min(nulls[item] for item in mine)
            found = _answers(context, [span for item in mine for span in spans[item]])
            if self._impossible:
                found.append({"answer": "", "score": null_score, "start": 0, "end": 0})
            best = sorted(found, key=lambda it: it["score"], reverse=True)[: self._top_k]
            first = best[0] if best else {"answer": "", "score": 0.0, "start": 0, "end": 0}
            rows.append({**first, "null_score": null_score, "answers": best})
        return pa.RecordBatch.from_pylist(rows, schema=pa.schema(self.columns()))


@dataclass(frozen=True, slots=True)
class Spans:
    """The best spans of one window, in tokens, by falling score."""

    first: np.ndarray
    last: np.ndarray
    scores: np.ndarray
    null_score: float


def best_spans(
    start: np.ndarray, end: np.ndarray, may_answer: np.ndarray, count: int, longest: int
) -> Spans:
    """The `count` most likely spans of at most `longest` tokens; none of probability zero.

    `start` and `end` are logits `[tokens]`. Each is a softmax over the tokens that may answer, and
    a span's score the product of both. The first token is the one for no answer.

    Source: transformers 4.57, question_answering.py: select_starts_ends, decode_spans
    """
    opening, closing = _shares(start, may_answer), _shares(end, may_answer)
    null_score = float(opening[0] * closing[0])
    opening[0] = closing[0] = 0.0
    width = min(longest, len(opening))
    ahead = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([closing, np.zeros(width - 1, np.float32)]), width
    )
    scores = (opening[:, None] * ahead).reshape(-1)  # of each start, the spans of 1, 2, … tokens
    best = (
        np.argpartition(-scores, count)[:count] if len(scores) > count else np.arange(len(scores))
    )
    best = best[np.argsort(-scores[best])]
    best = best[scores[best] > 0]
    return Spans(best // width, best // width + best % width, scores[best], null_score)


def _shares(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    masked = np.where(kept, logits, np.float32(-10000.0))
    shares = np.exp(masked - masked.max())
    return np.asarray(shares / shares.sum(), dtype=np.float32)


def _in_characters(found: Spans, tokens: WindowTokens) -> Iterator[dict[str, Any]]:
    for first, last, score in zip(
        found.first.tolist(), found.last.tolist(), found.scores.tolist(), strict=True
    ):
        start, end = tokens.characters(first, last)
        yield {"start": start, "end": end, "score": score}


def _answers(context: str, spans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The spans as answers; those of the same words are one, and their scores add up."""
    found: dict[str, dict[str, Any]] = {}
    for span in spans:
        words = context[span["start"] : span["end"]]
        known = found.get(words.lower())
        if known is None:
            found[words.lower()] = {"answer": words, **span}
        else:
            known["score"] += span["score"]
    return list(found.values())
