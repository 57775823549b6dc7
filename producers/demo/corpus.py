"""A corpus of reviews made from a seed: real enough to score, small enough to make in seconds.

The sentiment of a review is decided first and its sentences after, so that the labels are known.
They are not all fair: some labels are wrong and some reviews are undecided, as among people, so
that no model can be right every time.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from producers.demo import words
from producers.demo.words import Domain, Words

CORPUS_SEED = 1
CORPUS_ROWS = 20_000
TRAINING_SEED = 2
TRAINING_ROWS = 45_000  # chosen: what the demo's model reads once in under a minute on two cores

SHORT_CHARACTERS = 130  # chosen: some 30 tokens
LONG_SHARE = 0.2  # of the reviews that are longer

# chosen, so that a perfect reader scores about 0.975
WRONG_LABEL = 0.02
UNDECIDED = 0.01

REPEATED = 0.01  # the rest are chosen to look like what people type
TYPO = 0.08
EMOJI = 0.08
VERY_SHORT = 0.12
SUMMED_UP = 0.7  # share of the reviews of three sentences or more that end with a verdict
MOST_SENTENCES = 60
RECENT_ROWS = 1_000  # how far back an exact duplicate may look: bounds the memory

_ARTICLE = re.compile(r"\b([Aa])(?= [aeiou])")  # followed by a vowel: "a awful" reads "an awful"


@dataclass(frozen=True, slots=True)
class Review:
    """One labelled row of the corpus."""

    id: str
    text: str
    product: str
    stars: int
    """1 to 5; 1 and 2 for a negative label, 4 and 5 for a positive one, 3 for either."""
    label: str
    """`negative` or `positive`."""


def rows(seed: int, count: int) -> Iterator[Review]:
    """`count` reviews, the same for the same seed; more of them begin with the same rows."""
    rng = random.Random(seed)
    recent: list[Review] = []
    for number in range(count):
        if recent and rng.random() < REPEATED:
            review = replace(rng.choice(recent), id=_id(number))
        else:
            review = _review(rng, _id(number))
        if len(recent) < RECENT_ROWS:
            recent.append(review)
        else:
            recent[number % RECENT_ROWS] = review
        yield review


def labelled() -> list[Review]:
    """What the demo's model learns from: short reviews, and a share of all of them, mixed.

    A negation is learned from ten tokens, and costs a tenth of those of a long review.
    """
    found = list(rows(TRAINING_SEED, TRAINING_ROWS))
    rng = random.Random(TRAINING_SEED)
    kept = [r for r in found if len(r.text) <= SHORT_CHARACTERS or rng.random() < LONG_SHARE]
    rng.shuffle(kept)
    return kept


def write_corpus(path: Path, reviews: Iterable[Review], row_group_rows: int = 2_000) -> int:
    """How many reviews were written to the Parquet file, which appears whole or not at all.

    The folder is made when it is missing; a file that is there is replaced.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"id": pa.string(), "text": pa.string(), "product": pa.string()}
    schema = pa.schema({**types, "stars": pa.int8(), "label": pa.string()})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    remaining, written = iter(reviews), 0
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            while group := list(islice(remaining, row_group_rows)):
                columns = {name: [getattr(r, name) for r in group] for name in schema.names}
                writer.write_table(pa.table(columns, schema))
                written += len(group)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def _id(number: int) -> str:
    return f"r-{number:06d}"


class _Slots(dict[str, str]):
    """Fills a pattern: each `{slot}` becomes a newly chosen word."""

    def __init__(self, rng: random.Random, domain: Domain, thing: str, label: str) -> None:
        super().__init__(thing=thing)
        self._rng = rng
        praise, blame = words.PRAISE + domain.praise, words.BLAME + domain.blame
        like, unlike = (praise, blame) if label == "positive" else (blame, praise)
        self._words = {**words.SHARED, "aspect": domain.aspects, "like": like, "unlike": unlike}

    def __missing__(self, slot: str) -> str:
        return self._rng.choice(self._words[slot])

    def fill(self, patterns: Words) -> str:
        sentence = self._rng.choice(patterns).format_map(self)
        sentence = _ARTICLE.sub(r"\1n", sentence)
        return sentence[0].upper() + sentence[1:]


def _review(rng: random.Random, row_id: str) -> Review:
    domain = rng.choice(words.DOMAINS)
    thing = rng.choice(domain.things)
    label = rng.choice(("negative", "positive"))
    undecided = rng.random() < UNDECIDED
    slots = _Slots(rng, domain, thing, label)
    if undecided:
        sentences = [slots.fill(words.STATEMENTS), slots.fill(words.CONCESSIONS)]
        rng.shuffle(sentences)
        label = rng.choice(("negative", "positive"))
    elif rng.random() < VERY_SHORT:
        sentences = [slots.fill(words.SHORT + words.SHORT_VERDICTS[label])]
    else:
        sentences = _sentences(rng, domain, slots, label)
    text = _as_typed(rng, _paragraphs(rng, sentences), label)
    if rng.random() < WRONG_LABEL:
        label = "negative" if label == "positive" else "positive"
    product = rng.choice(domain.names).format(thing=thing)
    product = product[0].upper() + product[1:]
    return Review(row_id, text, product, _stars(rng, label, undecided), label)


def _sentences(rng: random.Random, domain: Domain, slots: _Slots, label: str) -> list[str]:
    # many reviews of a sentence or two, a few that fill pages
    wanted = min(MOST_SENTENCES, 1 + int(rng.lognormvariate(0.6, 0.95)))
    opinions, concessions = [slots.fill(_opinion(rng, label))], 0
    others: list[str] = []
    for _ in range(wanted - 1):
        kind = rng.random()
        if kind < 0.45:
            others.append(slots.fill(domain.facts))
        elif kind < 0.53 and concessions + 1 < len(opinions):
            concessions += 1  # fewer than the opinions, so that the label stays true
            others.append(slots.fill(words.CONCESSIONS))
        else:
            opinions.append(slots.fill(_opinion(rng, label)))
    sentences = opinions + others
    rng.shuffle(sentences)
    if len(sentences) > 2 and rng.random() < SUMMED_UP:
        sentences.append(slots.fill(words.VERDICTS[label]))
    return sentences


def _opinion(rng: random.Random, label: str) -> Words:
    kind = rng.random()
    if kind < 0.5:
        return words.STATEMENTS
    if kind < 0.66:
        return words.NEGATIONS
    if kind < 0.82:
        return words.CONTRASTS
    return words.VERDICTS[label]


def _paragraphs(rng: random.Random, sentences: list[str]) -> str:
    if len(sentences) < 7:
        return " ".join(sentences)
    text, remaining = "", iter(sentences)
    while paragraph := list(islice(remaining, rng.randint(3, 6))):
        text += ("\n\n" if text else "") + " ".join(paragraph)
    return text


def _as_typed(rng: random.Random, text: str, label: str) -> str:
    """The text with a slip of the finger, an emoji, or the wrong case; mostly as it was."""
    if rng.random() < TYPO:
        text = _with_typo(rng, text)
    case = rng.random()
    if case < 0.06:
        text = text.lower()
    elif case < 0.08:
        text = text.upper()
    elif case < 0.11:
        text = text.rstrip(".") + "!" * rng.randint(1, 4)
    if rng.random() < EMOJI:
        faces = words.EMOJI[label if rng.random() < 0.7 else "either"]
        text = f"{text} {rng.choice(faces) * rng.randint(1, 3)}"
    return text


def _with_typo(rng: random.Random, text: str) -> str:
    at = rng.randrange(1, len(text) - 1)
    if not (text[at].isalpha() and text[at + 1].isalpha()):
        return text
    slip = rng.choice((text[at + 1] + text[at], text[at] * 2 + text[at + 1], text[at + 1]))
    return text[:at] + slip + text[at + 2 :]


def _stars(rng: random.Random, label: str, undecided: bool) -> int:
    if undecided:
        return 3
    return rng.choice((4, 5, 5)) if label == "positive" else rng.choice((1, 1, 2))
