"""The hash of a text in a part's `text_hash` column, which any reader can compute again."""

from __future__ import annotations

import hashlib

HASH_BYTES = 16
"""Chosen: among 10^10 distinct texts, the probability of any collision is under 10^-18."""


def text_hash(text: bytes, pair: bytes | None = None) -> bytes:
    """16 bytes of BLAKE2b over the text's bytes in the file; a pair is length-prefixed.

    The length of the first text keeps `("ab", "c")` and `("a", "bc")` apart, and the personal
    string keeps a pair apart from a single text.
    """
    if pair is None:
        return hashlib.blake2b(text, digest_size=HASH_BYTES).digest()
    digest = hashlib.blake2b(
        len(text).to_bytes(8, "little"), digest_size=HASH_BYTES, person=b"pair"
    )
    digest.update(text)
    digest.update(pair)
    return digest.digest()


def share_limit(share: float) -> int:
    """Texts whose `share_number` is below it are this share of all texts, drawn by their hash alone."""
    return min(1 << 64, round(share * (1 << 64)))


def share_number(digest: bytes) -> int:
    """The last eight bytes of a text's hash: the first eight decide other draws."""
    return int.from_bytes(digest[8:], "little")
