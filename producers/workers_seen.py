"""The workers that showed a sign of life lately, as they themselves tell it in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from schemas import keys

SEEN_S = 15.0  # three signs of an idle worker; past it a worker counts as gone


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One worker; times in seconds since the epoch."""

    name: str
    queue: str
    device: str
    host: str
    pid: int
    seen_s: float
    job: str
    """Run key of the job whose chunks it has in hand; empty: it waits for work."""
    chunks: tuple[int, ...]

    @property
    def is_busy(self) -> bool:
        return bool(self.job)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_workers(client: Any, now_s: float, within_s: float = SEEN_S) -> Iterator[WorkerSeen]:
    """Workers seen within that time, by name. Raises redis-py's own errors."""
    names = sorted(n.decode() for n in client.zrangebyscore(keys.WORKERS, now_s - within_s, "+inf"))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.worker(name))
    for name, raw in zip(names, pipe.execute(), strict=True):
        if raw:
            yield _worker(name, {k.decode(): v.decode(errors="replace") for k, v in raw.items()})


def _worker(name: str, told: dict[str, str]) -> WorkerSeen:
    job, chunks = _hand(told.get("hand", ""))
    return WorkerSeen(
        name=name,
        queue=told.get("queue", ""),
        device=told.get("device", ""),
        host=told.get("host", ""),
        pid=int(told.get("pid", "0") or 0),
        seen_s=float(told.get("seen_s", "0") or 0),
        job=job,
        chunks=chunks,
    )


def _hand(text: str) -> tuple[str, tuple[int, ...]]:
    try:
        found = json.loads(text) if text else {}
        return str(found.get("job", "")), tuple(sorted(int(c) for c in found.get("chunks", {})))
    except (ValueError, AttributeError, TypeError):
        return "", ()
