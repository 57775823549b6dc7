"""Texts of all lengths, from nothing to 3,000 words, the same on every run."""

from __future__ import annotations

import random

WORDS_TEXT = """
the a weather is fine today and not it was one two three four five six seven paris london new york
anna works at acme in berlin good bad film very long short text with words of all kinds hello world
running happily unhappy microsoft plays 2024 city river morning evening people never always
"""
WORDS = WORDS_TEXT.split()
LENGTHS = (*range(1, 13), 14, 16, 17, 20, 24, 31, 32, 33, 40, 50, 63, 64, 65, 90, 127, 128, 129)
LONG = (200, 255, 257, 300, 400, 511, 513, 700, 1000, 1500, 3000)


def texts(seed: int = 7) -> list[str]:
    """49 texts in an order that puts short rows after long ones and the other way round."""
    draw = random.Random(seed)
    made = ["", " ", "?", "Zürich 😀 שלום 東京", "a\tb\n\nc", "ACME, Inc. (2024) - 'yes'!"]
    made += [" ".join(draw.choices(WORDS, k=n)) for n in (*LENGTHS, *LONG)]
    made += [" ".join(draw.choices(WORDS, k=3)) for _ in range(49 - len(made))]
    draw.shuffle(made)
    return made


def corpus() -> list[str]:
    """What the stand-in tokenizers are trained on."""
    return [
        *texts(),
        " ".join(WORDS),
        "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789",
    ]
