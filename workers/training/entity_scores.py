"""Entities in token logits, and the scores of a model that finds them. NumPy only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from schemas.entity_tags import Span
from schemas.records.training import TrainingSpec
from workers.training.rows.labelled_rows import LabelledRows
from workers.training.rows.token_tags import NO_TAG, spans_of_tags
from workers.training.scores import Scores, class_scores, log_softmax, score


def found_entities(
    rows: LabelledRows, numbers: np.ndarray, logits: np.ndarray, spec: TrainingSpec
) -> Iterator[list[tuple[Span, float]]]:
    """The entities of each of these rows with their scores, as the pipeline's `simple` groups them.

    `logits` are of the rows' tokens one after the other, `[tokens, tags]`.
    """
    assert rows.places is not None
    scores = np.exp(log_softmax(logits))
    best, sure = logits.argmax(-1), scores.max(-1)
    at = 0
    for row in numbers.tolist():
        first, stop = int(rows.offsets[row]), int(rows.offsets[row + 1])
        places = rows.places[first:stop]
        own = np.flatnonzero(places[:, 0] != places[:, 1])
        tags = [spec.labels[best[at + i]] for i in own]
        yield [
            (span, float(sure[at + own[one : last + 1]].mean()))
            for span, one, last in spans_of_tags(places[own], tags)
        ]
        at += stop - first


def score_rows(rows: LabelledRows, logits: np.ndarray, spec: TrainingSpec) -> Scores:
    """Scores of the validation rows' logits, for any kind of problem."""
    if spec.problem == "entities":
        return score_entities(rows, rows.validation, logits, spec)
    return score(spec.problem, logits, rows.targets[rows.validation], spec.labels)


def score_entities(
    rows: LabelledRows, numbers: np.ndarray, logits: np.ndarray, spec: TrainingSpec
) -> Scores:
    """Precision, recall and F1 of whole entities over all labels, as seqeval counts; loss by token."""
    assert rows.entities is not None
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    found = found_entities(rows, numbers, logits, spec)
    for row, entities in zip(numbers.tolist(), found, strict=True):
        true, told = set(rows.entities[row]), {span for span, _ in entities}
        for counts, spans in ((gold, true), (predicted, told), (right, true & told)):
            counts.update(label for label, _, _ in spans)
    labels = spec.shown_labels
    classes = class_scores(
        labels, *(np.array([c[n] for n in labels]) for c in (gold, predicted, right))
    )
    whole = class_scores(("",), *(np.array([sum(c.values())]) for c in (gold, predicted, right)))[0]
    return Scores(
        {"f1": whole.f1, "precision": whole.precision, "recall": whole.recall,
         "loss": _loss(logits, rows.token_targets(numbers))},
        classes,
    )  # fmt: skip


def _loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean cross-entropy of the tokens that have a tag."""
    known = np.flatnonzero(targets != NO_TAG)
    if not len(known):
        return 0.0
    return float(-log_softmax(logits[known])[np.arange(len(known)), targets[known]].mean())


def entity_counts(rows: LabelledRows, numbers: np.ndarray, spec: TrainingSpec) -> dict[str, int]:
    """Labelled entities in these rows, by label."""
    assert rows.entities is not None
    counts = Counter(label for row in numbers.tolist() for label, _, _ in rows.entities[row])
    return {label: counts[label] for label in spec.shown_labels}
