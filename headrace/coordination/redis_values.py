"""Validates values read from Redis, which any process may have written; else the default."""

from __future__ import annotations

import json
import math
from typing import Any

_MOST = 2**53
"""Larger counts are junk, and floats could not hold them."""


def as_number(raw: bytes | str | None, default: float | None = None) -> float | None:
    """A finite number; the default for anything else."""
    try:
        found = float(raw) if raw is not None else math.nan
    except ValueError:
        return default
    return found if math.isfinite(found) else default


def as_count(raw: bytes | str | None, default: int = 0) -> int:
    """A whole number that is not negative; the default for anything else."""
    found = as_number(raw)
    return int(found) if found is not None and 0 <= found <= _MOST else default


def as_record(raw: bytes | str | None) -> dict[str, Any]:
    """The fields of a JSON object; none for anything else."""
    try:
        found = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
