"""Nights of a made-up corpus: topics, words that cluster in texts, labels and scores of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.profiles.measure import ProfileBuilder
from headrace.profiles.profile import Profile
from headrace.profiles.vocabulary import Vocabulary
from headrace.tasks.catalog import task_spec
from schemas.records.part_schema import STATUS

WORDS = 1_500
VOCABULARY = Vocabulary.of_tokens(tuple(f"w{i}" for i in range(2 * WORDS)), 0, ())
SPEC = task_spec("text-classification")


@dataclass(frozen=True)
class World:
    """What nights are drawn from; the defaults are an ordinary night."""

    positive: float = 0.6
    longer: float = 1.0
    """Times the usual length."""
    foreign: float = 0.0
    """Share of rows in another script."""
    new: float = 0.0
    """Share of rows with words that were never seen."""
    confidence: float = 8.0


def _topics() -> np.ndarray:
    """The chance of each word in each of eight topics; frequent words are shared."""
    draw = np.random.default_rng(11)
    usual = 1 / np.arange(1, WORDS + 1)
    topics = [usual * draw.gamma(0.3, size=WORDS) + 0.3 * usual / usual.sum() for _ in range(8)]
    return np.array([t / t.sum() for t in topics])


TOPICS = _topics()


def night(seed: int, rows: int = 2_000, world: World | None = None) -> Profile:
    """The profile of a night's rows."""
    world = world or World()
    draw = np.random.default_rng(seed)
    lengths = np.clip(draw.lognormal(2.5, 0.5, rows) * world.longer, 2, 128).astype(np.int64)
    ids = _words(draw, lengths, world)
    foreign = draw.random(rows) < world.foreign
    letters = np.where(foreign, "слово ", "a word ")
    texts = [(str(t) * int(n)).encode() for t, n in zip(letters, lengths, strict=True)]
    builder = ProfileBuilder(SPEC)
    builder.add_rows(_rows(draw, lengths, world))
    sizes = np.array([len(t) for t in texts])
    builder.add_texts(texts, sizes, lengths, 0)
    builder.add_tokens(ids, lengths, np.ones(rows, np.int64), draw.integers(0, 2, rows))
    return builder.finish(VOCABULARY.counts())


def _words(draw: np.random.Generator, lengths: np.ndarray, world: World) -> np.ndarray:
    topic = np.repeat(draw.integers(0, len(TOPICS), len(lengths)), lengths)
    ids = np.zeros(len(topic), dtype=np.int64)
    for at, chances in enumerate(TOPICS):
        own = topic == at
        ids[own] = draw.choice(WORDS, size=int(own.sum()), p=chances)
    if world.new:
        is_new = np.repeat(draw.random(len(lengths)) < world.new, lengths)
        other = is_new & (draw.random(len(ids)) < 0.5)  # half of their words are the usual ones
        ids[other] = WORDS + draw.integers(0, 300, int(other.sum()))
    return ids


def _rows(draw: np.random.Generator, lengths: np.ndarray, world: World) -> pa.RecordBatch:
    rows = len(lengths)
    columns: dict[str, Any] = {
        "predicted_label": pa.array(
            np.where(draw.random(rows) < world.positive, "positive", "negative")
        ).dictionary_encode(),
        "score": pa.array(draw.beta(world.confidence, 1.0, rows).astype(np.float32)),
        "n_tokens": pa.array(lengths, pa.int32()),
        "truncated": pa.array(lengths >= 128),
        "status": pa.array(["ok"] * rows).dictionary_encode().cast(STATUS),
        "error_type": pa.array([None] * rows, pa.string()).dictionary_encode(),
    }
    return pa.record_batch(columns)
