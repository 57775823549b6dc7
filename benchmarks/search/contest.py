"""One task's contest: what runs, by name, and how far its answers are from ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

SIZES = (1, 8, 32)
"""Batches of the peers."""
FURTHEST = 1e-4
"""Answers may differ by so much. Chosen: some hundred times what float32 gave."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Ours first, then the peers; a run of another process returns its own seconds."""

    rows: int
    runs: dict[str, Callable[[], Any]]
    apart: float
    """The largest difference of a score between ours and the first peer."""

    def __post_init__(self) -> None:
        if not self.apart < FURTHEST:
            raise AssertionError(f"the answers differ by {self.apart}")


def of_sizes(
    name: str, run: Callable[[int], Any], sizes: Sequence[int] = SIZES
) -> dict[str, Callable[[], Any]]:
    """One run of a peer for each size of a batch."""
    return {f"{name}, batch {size}": partial(run, size) for size in sizes}
