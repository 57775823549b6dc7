"""Tokens a second of the faster tokenizers over those of `tokenizers`, and whether the ids are equal.

    python -m benchmarks.side_by_side.tokenizing MODEL FILE.parquet [--column text] [--rounds 3]

Both run in this process, by turns, on the same slices of the corpus, as a worker runs them. Times
are processor time of all threads; RAYON_NUM_THREADS says how many there are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pyarrow.parquet as pq

from headrace.tasks.contract import Encodings
from workers.models.flat_tokenizer import FlatEncoder
from workers.models.tokenizer import Encoder, encoder_of

WINDOW_ROWS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--column", default="text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=512)
    asked = parser.parse_args()

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    texts = [t or "" for t in pq.read_table(asked.file)[asked.column].to_pylist()]
    usual = Encoder(tokenizer, asked.max_length)
    faster = encoder_of(tokenizer, asked.max_length, stand_in=0, extra=None, ahead=False)
    if not isinstance(faster, FlatEncoder):
        raise SystemExit("no faster tokenizer is installed for this model, or it gave other ids")
    both: list[Callable[[list[str]], Encodings]] = [usual, faster]
    seconds: list[list[float]] = [[], []]
    different = tokens = 0
    for _ in range(asked.rounds):
        spent = [0.0, 0.0]
        different = tokens = 0
        for start in range(0, len(texts), WINDOW_ROWS):
            window = texts[start : start + WINDOW_ROWS]
            found = []
            for at, encode in enumerate(both):
                began = time.process_time()
                found.append(encode(window))
                spent[at] += time.process_time() - began
            tokens += len(found[0].ids)
            different += rows_that_differ(*found)
        for at, of_round in enumerate(spent):
            seconds[at].append(of_round)
    usual_s, faster_s = (median(times) for times in seconds)
    print(json.dumps({
        "rows": len(texts), "tokens": tokens, "library": faster.library, "rows_that_differ": different,
        "usual_tokens_per_second": round(tokens / usual_s), "faster_tokens_per_second": round(tokens / faster_s),
        "ratio": round(usual_s / faster_s, 2),
    }, indent=1))  # fmt: skip


def rows_that_differ(one: Encodings, other: Encodings) -> int:
    """How many rows have other ids, or another mark of truncation."""
    if np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets):
        return int((one.truncated != other.truncated).sum())
    pairs = zip(one.offsets, one.offsets[1:], other.offsets, other.offsets[1:], strict=False)
    return sum(not np.array_equal(one.ids[a:b], other.ids[c:d]) for a, b, c, d in pairs)


if __name__ == "__main__":
    main()
