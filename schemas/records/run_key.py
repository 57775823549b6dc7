"""A job's name in Redis: its id and its output's, since one job may run into two outputs at once."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=1024)  # asked for each message of a queue at each look of the controller
def job_key(job_id: str, output: str) -> str:
    """`{id}-{8 hex digits of the output}`."""
    return f"{job_id}-{hashlib.sha256(output.encode()).hexdigest()[:8]}"
