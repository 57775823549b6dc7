"""A worker's record in Redis: what `headrace status --workers` and the scaler read."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from headrace.settings import Settings
from workers.devices.device import dtypes_of


@dataclass(frozen=True, slots=True)
class Identity:
    """The worker's identity: `name` is unique while it lives, and the same for its children."""

    name: str
    device: str
    threads: int


def facts_of(settings: Settings) -> dict[str, str]:
    """The fields that do not change in a worker's life."""
    device = "cpu" if settings.device == "auto" else settings.device
    return {
        "device": device,
        "dtypes": ",".join(sorted(dtypes_of(device))),
        "queue": settings.queue,
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
    }
