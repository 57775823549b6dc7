"""Rows on which a model is tried before it runs batches: short, long, of equal length.

A family's blocks, windows and chunks are numbers in its configuration. Rows on both sides of each
number are tried, so that a change there is found when the model is loaded.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings

# Rows of very different lengths, so that a wrong packing or a wrong mask shows.
PROBE = ["a", "The weather is fine today, is it not?", "one two three four five six seven " * 3]
# A GPU computes rows of up to 16, 32, 64, 128 and of more tokens by a kernel of their own each; those
# of 32 are in the probe above.
GPU_PROBES = [["a", "one two three four five six seven " * n] for n in (1, 7, 14, 28)]

BOUND = re.compile(
    r"block|window|chunk|bucket|original_max|span|stride|local|axial|pool|rate|relative|max_distance"
)
"""In the names of settings that cut a row, with the families of transformers 5.23 (read)."""
BLOCKS = 12
"""Rows of so many blocks: BigBird reads fewer than eleven in full (with three at random)."""
USUAL_REACH = 300  # chosen: past anything that a family keeps to itself and states nowhere
MOST = 1 << 14
"""Words of the long row. Chosen: past the blocks and windows of all families but those that no
worker could try in the time there is."""
LIMIT_S = 3.0
"""For the rows alone. Chosen: a load takes some seconds anyhow."""
WORDS = [*PROBE[1].split(), *PROBE[2].split()]


def bounds_of(config: Mapping[str, Any]) -> set[int]:
    """Numbers in a configuration (as a dict) at which a model may cut rows."""
    return set(_bounds(config))


def _bounds(value: Any, name: str = "") -> Iterator[int]:
    if isinstance(value, Mapping):
        for inner, what in value.items():
            yield from _bounds(what, str(inner))
    elif isinstance(value, list | tuple):
        for what in value:
            yield from _bounds(what, name)
    elif (
        isinstance(value, int) and not isinstance(value, bool) and value > 1 and BOUND.search(name)
    ):
        yield value


def lengths_to_try(bounds: set[int], longest: int) -> tuple[int, ...]:
    """Lengths of the rows to try in tokens, ascending, at most `longest`."""
    wanted = {4, 23, USUAL_REACH}
    for bound in bounds:
        wanted |= {bound + 1, 2 * bound + 1}
        if bound <= USUAL_REACH:
            wanted.add(BLOCKS * bound + 1)
    return tuple(sorted({min(n, longest) for n in wanted if n > 1}))


def long_row(encode: Callable[[Sequence[str]], Encodings], tokens: int = MOST) -> Encodings:
    """One row of at least so many tokens, or of as many as a row may have."""
    draw = random.Random(7)
    return encode([" ".join(draw.choices(WORDS, k=tokens))])


def cut(row: Encodings, lengths: Sequence[int]) -> Encodings:
    """Rows of these lengths out of a long one: each begins and ends as it does."""
    have = len(row.ids)
    kept = [min(n, have) for n in lengths]
    places = []
    for number, n in enumerate(kept):
        shift = 7 * number % (have - n + 1)  # rows of one length must not be the same
        inner = np.arange(shift + 1, shift + n - 1)
        places += [np.array([0]), inner, np.array([have - 1])] if n > 1 else [np.array([0])]
    at = np.concatenate(places)
    return Encodings(
        ids=row.ids[at],
        offsets=np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        truncated=np.zeros(len(kept), dtype=bool),
        type_ids=None if row.type_ids is None else row.type_ids[at],
    )


def within_time(
    lengths: Sequence[int],
    run: Callable[[int], object],
    clock: Callable[[], float],
    limit_s: float = LIMIT_S,
) -> list[int]:
    """The lengths that `run` finished; none is begun that would far exceed the time limit."""
    done: list[int] = []
    started = clock()
    last_s = 0.0
    for length in lengths:
        began = clock()
        if done and began - started + last_s * _growth(done[-1], length) > limit_s:
            break
        run(length)
        last_s = clock() - began
        done.append(length)
    return done


def _growth(before: int, length: int) -> float:
    """How much longer a longer row takes: attention grows with the square of the length."""
    return length / before if length <= USUAL_REACH else (length / before) ** 2
