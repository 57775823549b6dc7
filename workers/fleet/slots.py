"""The places for workers on one host: which device, how many threads, which cores."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.settings import Settings
from workers.devices.device import list_devices, worker_environment
from workers.devices.gpus import (
    cores_near,
    list_gpus,
    parse_cpu_list,
)

_NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one worker: a device of its own, or a share of the cores."""

    name: str
    device: str
    threads: int
    cores: tuple[int, ...] = ()
    """The cores it may use; empty: any."""
    visible: str | None = None
    """What `CUDA_VISIBLE_DEVICES` calls its GPU: a UUID."""

    def environment(self) -> dict[str, str]:
        """What its worker is started with, over the fleet's own variables.

        `python -m` and billiard's `python -c` would import from the current folder first, where a
        user may have a `workers/` or a `queue.py`.
        """
        return {
            "PYTHONSAFEPATH": "1",
            **worker_environment(self.device, self.threads, self.visible),
            "HEADRACE_WORKER_NAME": self.name,
            "HEADRACE_DEVICE": self.device,
            "HEADRACE_THREADS": str(self.threads),
        }


def plan_slots(
    settings: Settings,
    cores: Sequence[int],
    count: int | None = None,
    granted: float | None = None,
) -> list[Slot]:
    """One slot a device; on the CPU as many as asked for, sharing the cores between them.

    Two CPU workers of one thread do more than one of two (measured: 1.05–1.23). Each is
    kept to cores of its own, on one NUMA node where they fit; a GPU's worker to those near it.
    Where only so many cores' worth of time is `granted` (a container's limit), that is what is
    shared, and nobody is kept to any core: the neighbours' containers would choose the same.

    Raises:
        ConfigError: the setting `device` has no meaning, or names a GPU that is not there.
    """
    worth = len(cores) if granted is None else max(1, min(len(cores), int(granted)))
    devices = list_devices(settings.device)
    if devices == ["cpu"]:
        devices = ["cpu"] * (count or settings.workers or max(1, worth))
    else:
        devices = devices[: count or settings.workers]
    threads = settings.threads or max(1, worth // len(devices))
    uuids = {gpu.name: gpu.uuid for gpu in list_gpus()} if set(devices) != {"cpu"} else {}
    own = cores if worth == len(cores) else ()
    shares = split_cores(own, devices.count("cpu"), node_of_cores())
    host = f"{socket.gethostname()}-{os.getpid()}"
    slots = []
    for number, device in enumerate(devices):
        near = shares.pop(0) if device == "cpu" else _near(device, cores)
        slots.append(Slot(f"{host}-{number}", device, threads, near, uuids.get(device)))
    return slots


def split_cores(
    cores: Sequence[int], count: int, node_of: Mapping[int, int]
) -> list[tuple[int, ...]]:
    """Disjoint shares of neighbouring cores; no restriction for one worker, or too many of them."""
    if count <= 1 or count > len(cores):
        return [()] * count
    order = sorted(cores, key=lambda c: (node_of.get(c, 0), c))
    cuts = [round(i * len(order) / count) for i in range(count + 1)]
    return [tuple(order[a:b]) for a, b in itertools.pairwise(cuts)]


def node_of_cores(nodes: Path = _NODES) -> dict[int, int]:
    """The NUMA node of each core; empty where the kernel does not say."""
    found: dict[int, int] = {}
    for path in sorted(nodes.glob("node[0-9]*")):
        try:
            for core in parse_cpu_list((path / "cpulist").read_text()):
                found[core] = int(path.name.removeprefix("node"))
        except (OSError, ValueError):
            continue
    return found


def cores_available() -> list[int]:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe(slots: Sequence[Slot]) -> str:
    devices = sorted({s.device for s in slots})
    workers = "worker" if len(slots) == 1 else "workers"
    return f"{len(slots)} {workers} on {', '.join(devices)}"


def _near(device: str, cores: Sequence[int]) -> tuple[int, ...]:
    near = tuple(sorted(set(cores_near(device)) & set(cores)))
    return near if len(near) < len(cores) else ()
