"""Zero-shot classification: which of the given labels fits the text best.

A model of natural language inference is asked, for each label, whether the text entails the
hypothesis "This example is {label}.". A row becomes one item for each of its labels.

Columns:

- `predicted_label` dictionary<int32, string>: the label with the highest score; null where that is
  below the threshold
- `score` float32: its score
- `scores` list<struct<label: string, score: float32>>: the labels by falling score; with a
  threshold only those that reach it

Parameters: `candidate_labels` (a JSON array) or `labels_column` (labels come as a second text),
`hypothesis_template`, `multi_label`, `threshold`.

Scores are those of transformers' `ZeroShotClassificationPipeline`: a softmax of the entailment over
the labels; for independent labels, and for one alone, over entailment and contradiction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.candidate_labels import (
    DEFAULT_TEMPLATE,
    entailment_of,
    ids_of_labels,
    labels_of,
)
from headrace.tasks.contract import ComparableOutput, Encodings, LoadRequest
from headrace.tasks.fan_out import FanOut
from headrace.tasks.sentence_files import check_adapter
from schemas.errors import ConfigError, InvalidRow
from workers.models.load import check_labels, read_json
from workers.models.pair_encoder import PairEncoder, Tokens
from workers.tasks.text_classification import SCORES, activate
from workers.tasks.transformer import ItemsTask


class ZeroShotClassification(ItemsTask):
    """See the module."""

    task = "zero-shot-classification"
    architecture = "ForSequenceClassification"
    output = "sequence"
    reads_whole_text = False

    def auto_class(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`.

        Raises:
            ConfigError: a label leaves no room for a text.
        """
        super().load(request)
        self._pairs = PairEncoder(self.tokenizer, self.max_length)
        self._known: Tokens | None = None
        if self.labels is not None:
            self._known = self._pairs.tokens([self._template.format(it) for it in self.labels])
            room = self._pairs.room(self._known)
            if room.min() < 1:
                label = self.labels[int(room.argmin())]
                raise ConfigError(
                    f"candidate label {label[:80]!r} leaves no room for a text within "
                    f"{self.max_length} tokens: see --max-length"
                )

    def prepare(self, request: LoadRequest) -> None:
        check_adapter(partial(read_json, request.model_path), request.model_path)
        params = request.params
        given = params.get("candidate_labels")
        self.labels = None if given is None else labels_of(given)
        self._template = params.get("hypothesis_template") or DEFAULT_TEMPLATE
        self._multi = bool(params.get("multi_label"))
        self._threshold = params.get("threshold")
        self._contradiction, self._entailment = entailment_of(
            ids_of_labels(self.config.label2id, self.config.id2label), request.model_path
        )

    def check_width(self, request: LoadRequest) -> None:
        check_labels(request, self.config, self.width)

    # -- rows to items

    def count_items(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """See `SupportsFanOut.count_items`."""
        if self.labels is not None or pairs is None:
            return np.full(len(texts), len(self.labels or ()), dtype=np.int64)
        return np.array([pair.count(",") + 1 for pair in pairs], dtype=np.int64)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`; the labels of each row are its second text, if there are no others.

        Raises:
            InvalidRow: a row's labels cannot be used.
        """
        names, rows = self._labels_of_rows(texts, pairs)
        seconds = self._known
        if seconds is None:
            seconds = self._pairs.tokens([self._template.format(name) for name in names])
        distinct = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
        label_of = np.concatenate(rows)
        # labels of the same tokens (Cat and cat, for many models) must have the same score
        same = _first_equal(seconds)
        key = np.repeat([distinct[text] for text in texts], np.diff(starts)) * len(same)
        keys, item_of = np.unique(key + same[label_of], return_inverse=True)
        firsts = self._pairs.tokens(list(distinct))
        found = self._pairs.pairs(firsts, seconds, keys // len(same), keys % len(same))
        labels = [[names[at] for at in row] for row in rows] if pairs and not self.labels else None
        return replace(found, fan=FanOut(starts, item_of, labels))

    def _labels_of_rows(
        self, texts: Sequence[str], pairs: Sequence[str] | None
    ) -> tuple[list[str], list[np.ndarray]]:
        """All distinct labels, and the labels of each row as indices into them."""
        if self.labels is not None:
            return self.labels, [np.arange(len(self.labels))] * len(texts)
        if pairs is None:
            raise InvalidRow("there is no candidate label")
        rows = [labels_of(pair) for pair in pairs]
        at = {name: i for i, name in enumerate(dict.fromkeys(n for row in rows for n in row))}
        return list(at), [np.array([at[name] for name in row]) for row in rows]

    # -- items to rows

    def item_columns(self) -> list[pa.Field]:
        """See `SupportsFanOut.item_columns`."""
        return [pa.field("contradiction", pa.float32()), pa.field("entailment", pa.float32())]

    def columns(self) -> list[pa.Field]:
        return [
            pa.field("predicted_label", pa.dictionary(pa.int32(), pa.string())),
            pa.field("score", pa.float32()),
            pa.field("scores", SCORES),
        ]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        logits = self.numbers(batch, output)
        columns = [pa.array(logits[:, at]) for at in (self._contradiction, self._entailment)]
        return pa.record_batch(columns, schema=pa.schema(self.item_columns()))

    def join(self, fan: FanOut, items: pa.RecordBatch) -> pa.RecordBatch:
        """See `SupportsFanOut.join`."""
        logits = np.stack([column.to_numpy(zero_copy_only=False) for column in items.columns], 1)
        rows = np.split(logits[fan.item_of], fan.starts[1:-1]) if len(fan) else []
        names: list[str] = []
        kept, scores, best, top = [0], [], [], []
        for row, numbers in enumerate(rows):
            labels = fan.extra[row] if fan.extra is not None else self.labels or []
            found = label_scores(numbers, multi_label=self._multi)
            # as the pipeline does it, so that equal scores come in its order
            order = found.argsort()[::-1]
            if self._threshold is not None:
                order = order[found[order] >= self._threshold]
            names += [labels[at] for at in order]
            scores.append(found[order])
            kept.append(kept[-1] + len(order))
            top.append(found.max())
            best.append(labels[order[0]] if len(order) else None)
        pairs = pa.StructArray.from_arrays(
            [pa.array(names, pa.string()),
             pa.array(np.concatenate([np.zeros(0, np.float32), *scores]))],
            names=["label", "score"],
        )  # fmt: skip
        arrays = [
            pa.array(best, pa.string()).dictionary_encode(),
            pa.array(top, pa.float32()),
            pa.ListArray.from_arrays(pa.array(kept, pa.int32()), pairs),
        ]
        return pa.record_batch(arrays, schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `SupportsComparison.answers`: what the model says of each pair."""
        return ComparableOutput("labels", activate(self.numbers(batch, output), "softmax"))


def label_scores(logits: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Scores float32 `[labels]` from logits `[labels, 2]` of contradiction and entailment.

    Source: transformers 5.23, ZeroShotClassificationPipeline.postprocess
    """
    if multi_label or len(logits) == 1:
        return np.asarray(activate(logits, "softmax")[:, 1])
    return np.asarray(activate(logits[None, :, 1], "softmax")[0])


def _first_equal(tokens: Tokens) -> np.ndarray:
    """For each text, the first text with the same tokens, int64 `[texts]`."""
    if not len(tokens.ids):
        return np.arange(len(tokens.texts))
    seen: dict[bytes, int] = {}
    cuts = np.split(tokens.ids, tokens.offsets[1:-1])
    return np.array([seen.setdefault(ids.tobytes(), at) for at, ids in enumerate(cuts)])
