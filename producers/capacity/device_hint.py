"""What devices the workers will have, as far as this machine can tell. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from headrace.coordination.live_workers import LiveWorker
from headrace.process.nvidia_smi import ask_nvidia_smi

BF16_CAPABILITY = 8.0
"""Required: compute capability of the first NVIDIA GPUs with bfloat16 units (Ampere)."""


@dataclass(frozen=True, slots=True)
class DeviceHint:
    """The kind of device that a job is planned for."""

    kind: Literal["cpu", "cuda"] = "cpu"
    bf16: bool = False
    name: str = ""
    count: int = 1
    cores: int = 1
    """Cores of one CPU worker."""
    serves_int8: bool = True
    """As far as is known; a GPU does not, whatever this says."""

    is_here: bool = True
    """This machine has it; else it was named, and a fleet may have it."""

    @property
    def int8(self) -> bool:
        return self.kind == "cpu" and self.serves_int8


def guess_device(
    setting: str, *, workers: int = 1, query: Callable[[], str | None] | None = None
) -> DeviceHint:
    """The device that `--device` means on this machine; `auto` is a GPU where there is one."""
    cores = max(1, (os.cpu_count() or 1) // max(1, workers))
    if setting == "cpu":
        return DeviceHint(name="CPU", cores=cores)
    found = parse_gpus((query or query_gpus)())
    if not found:
        if setting == "auto":
            return DeviceHint(name="CPU", cores=cores)
        return DeviceHint("cuda", bf16=False, name="GPU elsewhere", is_here=False)
    name = found[0][0]
    bf16 = all(capability >= BF16_CAPABILITY for _, capability in found)
    return DeviceHint("cuda", bf16, name, len(found), cores)


def query_gpus() -> str | None:
    """What nvidia-smi says of name and compute capability, one GPU a line; None without it."""
    lines = ask_nvidia_smi("--query-gpu=name,compute_cap", "--format=csv,noheader")
    return None if lines is None else "\n".join(lines)


def parse_gpus(text: str | None) -> list[tuple[str, float]]:
    """Names and compute capabilities in the answer of nvidia-smi."""
    found: list[tuple[str, float]] = []
    for line in (text or "").splitlines():
        name, _, capability = line.rpartition(",")
        try:
            found.append((name.strip(), float(capability)))
        except ValueError:
            continue
    return found


def hint_of(workers: Iterable[LiveWorker]) -> DeviceHint | None:
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
