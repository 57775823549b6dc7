"""The GPUs of this host by name and UUID, including MIG slices, and the CPU cores near them.

`nvidia-smi -L` prints one line a GPU and, indented, one a slice:

    GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
      MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)

A GPU that is cut into slices cannot compute as a whole, so its slices are listed instead:
`cuda:0.1` is slice 1 of GPU 0. Source: NVIDIA's MIG user guide, "CUDA device enumeration".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace.process.nvidia_smi import ask_nvidia_smi

_GPU = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[\w-]+)\)")
_SLICE = re.compile(r"MIG .*Device\s+(\d+): \(UUID: (MIG-[\w/-]+)\)")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU or a slice of one: `name` for people, `uuid` for `CUDA_VISIBLE_DEVICES`."""

    name: str
    uuid: str


def list_gpus() -> list[Gpu]:
    """The GPUs of this host; a GPU with MIG slices is replaced by them; empty without a driver."""
    return parse_gpus(nvidia_smi("-L"))


def parse_gpus(lines: Iterable[str]) -> list[Gpu]:
    """The devices in the lines of `nvidia-smi -L`."""
    found: list[Gpu] = []
    whole: Gpu | None = None
    for line in lines:
        if gpu := _GPU.match(line.strip()):
            whole = Gpu(f"cuda:{gpu[1]}", gpu[2])
            found.append(whole)
        elif (part := _SLICE.match(line.strip())) and whole is not None:
            if found[-1] == whole:
                found.pop()
            found.append(Gpu(f"{whole.name}.{part[1]}", part[2]))
    return found


def gpu_index(name: str) -> int:
    """The index in `nvidia-smi` of the GPU `cuda:0`, or of the GPU of the slice `cuda:0.1`."""
    return int(name.removeprefix("cuda:").split(".")[0] or 0)


def cores_near(name: str, sysfs: Path = Path("/sys/bus/pci/devices")) -> list[int]:
    """The cores on the GPU's own NUMA node; empty if that is not known."""
    addresses = nvidia_smi("--query-gpu=pci.bus_id", "--format=csv,noheader")
    if gpu_index(name) >= len(addresses):
        return []
    # nvidia-smi writes the domain with eight digits, the kernel with four
    address = addresses[gpu_index(name)].lower()[-12:]
    try:
        return parse_cpu_list((sysfs / address / "local_cpulist").read_text())
    except (OSError, ValueError):
        return []


def parse_cpu_list(text: str) -> list[int]:
    """`0-2,8` as numbers. Raises ValueError for anything else."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def nvidia_smi(*arguments: str) -> list[str]:
    """The lines it prints; none without the program or the driver."""
    return list(ask_nvidia_smi(*arguments) or ())
