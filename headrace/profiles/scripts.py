"""The main script of each text (the script of most letters), for many texts at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The first code point of each range, and its script; "" is no letter.
_RANGES: tuple[tuple[int, str], ...] = (
    (0x00, ""), (0xC0, "latin"), (0x2C0, ""), (0x380, "greek"), (0x400, "cyrillic"),
    (0x540, "armenian"), (0x590, "hebrew"), (0x600, "arabic"), (0x700, "other"),
    (0x900, "devanagari"), (0x980, "bengali"), (0xA00, "other"), (0xB80, "tamil"),
    (0xC00, "telugu"), (0xC80, "other"), (0xE00, "thai"), (0xE80, "other"), (0x10C0, "georgian"),
    (0x1100, "hangul"), (0x1200, "ethiopic"), (0x13C0, "other"), (0x1E00, "latin"),
    (0x1F00, "greek"), (0x2000, ""), (0x2C00, "other"), (0x2E00, ""), (0x2E80, "han"),
    (0x3000, ""), (0x3040, "kana"), (0x3100, "other"), (0x3400, "han"), (0x4DC0, ""),
    (0x4E00, "han"), (0xA000, "other"), (0xAC00, "hangul"), (0xD800, ""), (0xF900, "han"),
    (0xFB00, "other"), (0xFB40, "arabic"), (0xFE00, ""), (0xFE80, "arabic"),
    (0xFF00, ""), (0x10000, "other"), (0x1F000, "emoji"), (0x20000, "han"), (0x40000, "other"),
)  # fmt: skip
"""Ranges start at multiples of 64, as two bytes of UTF-8 tell no more; planes 1 to 3 at 4,096.

Source: https://www.unicode.org/Public/UNIDATA/Blocks.txt, the large blocks of living scripts
"""

SCRIPTS: tuple[str, ...] = tuple(sorted({name for _, name in _RANGES if name}))
NONE = "none"
"""The script of a text without a letter."""

_STARTS = np.array([start for start, _ in _RANGES])
_CODES = np.array([SCRIPTS.index(name) if name else -1 for _, name in _RANGES])
_LATIN = SCRIPTS.index("latin")
_IS_LETTER = np.zeros(256, dtype=np.uint8)
_IS_LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = 1


def main_scripts(texts: Sequence[bytes]) -> dict[str, int]:
    """Texts in UTF-8 by the script that most of their letters are in; equal: the first by name."""
    if not texts:
        return {}
    counts = _letters(texts)
    best = np.where(counts.any(axis=1), counts.argmax(axis=1), len(SCRIPTS))
    found = np.bincount(best, minlength=len(SCRIPTS) + 1).tolist()
    return {name: n for name, n in zip((*SCRIPTS, NONE), found, strict=True) if n}


def _letters(texts: Sequence[bytes]) -> np.ndarray:
    """Letters by text and script, int64 `[texts, scripts]`."""
    # a byte that ends each text: `reduceat` wants no empty piece
    data = np.frombuffer(b"\0".join(texts) + b"\0\0\0\0", dtype=np.uint8)
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    counts = np.zeros((len(texts), len(SCRIPTS)), dtype=np.int64)
    counts[:, _LATIN] = np.add.reduceat(_IS_LETTER[data], starts, dtype=np.int32)
    at = np.flatnonzero(data >= 0xC2)
    if len(at):
        codes = _CODES[np.searchsorted(_STARTS, _block(data, at), side="right") - 1]
        rows = np.searchsorted(starts, at, side="right") - 1
        known = codes >= 0
        cells = rows[known] * len(SCRIPTS) + codes[known]
        counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    return counts


def _block(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The first code point that the two bytes at each place allow."""
    first, second = data[at].astype(np.int64), data[at + 1].astype(np.int64) & 0x3F
    two, three = (first & 0x1F) << 6, ((first & 0x0F) << 12) | (second << 6)
    four = ((first & 0x07) << 18) | (second << 12)
    return np.asarray(np.where(first < 0xE0, two, np.where(first < 0xF0, three, four)))
