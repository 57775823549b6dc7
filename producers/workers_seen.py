"""The workers that showed a sign of life lately, as they themselves tell it in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from producers.capacity.device_hint import DeviceHint
from schemas.names import redis_keys

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
    dtypes: tuple[str, ...]
    """Precisions its device has."""
    job: str
    """Run key of the job whose chunks it has in hand; empty: it waits for work."""
    chunks: tuple[int, ...]
    model: str = ""
    """What is loaded; empty: nothing yet."""
    is_loading: bool = False
    """It has work in hand whose model is not on its device yet."""
    progress_s: float | None = None
    """When it last gave a batch to its device; None: it has not yet."""

    @property
    def is_busy(self) -> bool:
        return bool(self.job)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_workers(client: Any, now_s: float, within_s: float = SEEN_S) -> Iterator[WorkerSeen]:
    """Workers seen within that time, by name. Raises redis-py's own errors."""
    names = sorted(
        n.decode() for n in client.zrangebyscore(redis_keys.WORKERS, now_s - within_s, "+inf")
    )
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(redis_keys.worker(name))
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
        dtypes=tuple(d for d in told.get("dtypes", "").split(",") if d),
        job=job,
        chunks=chunks,
        model=told.get("model", ""),
        is_loading=bool(job)
        and told.get("model") == "",  # who tells no model at all is another version
        progress_s=float(told["progress_s"]) if "progress_s" in told else None,
    )


def _hand(text: str) -> tuple[str, tuple[int, ...]]:
    try:
        found = json.loads(text) if text else {}
        return str(found.get("job", "")), tuple(sorted(int(c) for c in found.get("chunks", {})))
    except (ValueError, AttributeError, TypeError):
        return "", ()


def hint_of(workers: Iterable[WorkerSeen]) -> DeviceHint | None:
    """The kind of device a fleet has; None where there is no worker to tell.

    A fleet of both kinds is taken for CPUs: what they can do, the others can.
    """
    found = list(workers)
    if not found:
        return None
    if not all(w.device.startswith("cuda") for w in found):
        int8 = any("int8" in w.dtypes for w in found)
        return DeviceHint(name="the fleet's CPUs", count=len(found), serves_int8=int8)
    bf16 = all("bfloat16" in w.dtypes for w in found)
    return DeviceHint("cuda", bf16, "the fleet's GPUs", len(found))
