"""The worker slots of one host: device, threads and cores of each."""

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
    """A slot for one worker: a device of its own, or a share of the cores."""

    name: str
    device: str
    threads: int
    cores: tuple[int, ...] = ()
    """The cores it may use; empty: any."""
    visible: str | None = None
    """The UUID of its GPU, for `CUDA_VISIBLE_DEVICES`."""

    def environment(self) -> dict[str, str]:
        """The worker's environment, in addition to the fleet's own variables.

        `python -m` and billiard's `python -c` would import from the current folder first, which
        may have a `workers/` or a `queue.py` of the user.
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
    """One slot per device; on the CPU as many as requested, which share the cores.

    Without a number, as many as there are cores for the threads of each. Each CPU worker
    is pinned to its own cores, on one NUMA node if they fit; a GPU's worker to the cores near it.
    With a container's CPU limit (`granted`, in cores) that limit is shared and no worker is pinned:
    the workers of other containers would choose the same cores.

    Raises:
        ConfigError: the setting `device` has no meaning, or names a GPU that is not there.
    """
    worth = len(cores) if granted is None else max(1, min(len(cores), int(granted)))
    devices = list_devices(settings.device)
    if devices == ["cpu"]:
        each = settings.threads or 1
        devices = ["cpu"] * (count or settings.workers or max(1, worth // each))
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
    """Disjoint shares of neighbouring cores; no pinning for one worker or too many workers."""
    if count <= 1 or count > len(cores):
        return [()] * count
    order = sorted(cores, key=lambda c: (node_of.get(c, 0), c))
    cuts = [round(i * len(order) / count) for i in range(count + 1)]
    return [tuple(order[a:b]) for a, b in itertools.pairwise(cuts)]


def node_of_cores(nodes: Path = _NODES) -> dict[int, int]:
    """The NUMA node of each core; empty if the kernel does not report it."""
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
