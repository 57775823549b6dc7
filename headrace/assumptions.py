"""Figures that plans and decisions start from until a job has measured its own."""

from __future__ import annotations

CHUNK_S = 30.0
"""Work that a chunk is planned for. Chosen: what a lost chunk may cost, long enough that the fixed
cost of a chunk vanishes in it."""

BYTES_PER_TOKEN = 4.0
"""Of text. Measured on English with WordPiece: 3.9 to 4.6."""

MODEL_LOAD_S = 15.0
"""Until a worker can compute: a base model on a CPU."""
