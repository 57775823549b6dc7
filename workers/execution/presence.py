"""That a worker is there: what `headrace status --workers` and the scaler read of it."""

from __future__ import annotations

import os
import socket

from headrace.settings import Settings
from workers.devices.device import dtypes_of


def facts_of(settings: Settings) -> dict[str, str]:
    """What does not change in a worker's life."""
    device = "cpu" if settings.device == "auto" else settings.device
    return {
        "device": device,
        "dtypes": ",".join(sorted(dtypes_of(device))),
        "queue": settings.queue,
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
    }
