"""Which devices exist, what they support, and how to start a process that uses one well.

Nothing here imports torch at the top: the parent of a fleet lists devices and builds the
environment of its children without paying for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.process.cpu import cpu_name, number_formats
from schemas.errors import ConfigError, ModelError
from workers.devices.gpus import (
    gpu_index,
    list_gpus,
    nvidia_smi,
)

if TYPE_CHECKING:
    import numpy as np

CPU = "cpu"

MALLOC_ENVIRONMENT = {
    # glibc gives every large activation back to the kernel and faults it in again, page by page,
    # at the next layer. With these it keeps up to 1 GiB: 1.2 times the speed of a small model on
    # two cores (measured). glibc reads them at start, so the parent process must set them; setting one
    # also stops glibc from moving the thresholds by itself.
    # Source: mallopt(3), M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


ONEDNN_ENVIRONMENT = {
    # For each number of tokens it has seen, a matrix product keeps compiled code and memory of the
    # size of its operands: up to 1,024 entries in each of two caches, torch's and oneDNN's. Nearly
    # every batch has another number. Measured with MiniLM: 11 MB each, 1,083 MB after 5,000 rows of
    # documentation. One forward needs a few, which its layers share; with eight nothing was slower.
    # Both variables are read when the library is loaded.
    # Source: https://oneapi-src.github.io/oneDNN/dev_guide_primitive_cache.html
    "LRU_CACHE_CAPACITY": "8",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8",
}


def list_devices(spec: str = "auto") -> list[str]:
    """The devices a setting names, one worker process each: `["cpu"]` or `["cuda:0", "cuda:1"]`.

    `auto` is every GPU that `nvidia-smi` lists, else the CPU; `cuda` is every GPU; a list such as
    `cuda:0,cuda:1` or `cpu,cpu` is used as given. A slice (MIG) is a device: `cuda:0.1`.

    Raises:
        ConfigError: the setting is invalid, or names a GPU that is not there.
    """
    spec = spec.strip().lower()
    if spec == CPU:
        return [CPU]
    known = [] if set(spec.split(",")) == {CPU} else [gpu.name for gpu in list_gpus()]
    if spec in ("auto", "cuda"):
        if spec == "cuda" and not known:
            raise ConfigError(
                "device cuda: nvidia-smi lists no GPU on this machine; use --device cpu"
            )
        return known or [CPU]
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names or not all(re.fullmatch(r"cpu|cuda:\d+(\.\d+)?", name) for name in names):
        raise ConfigError(f"device {spec!r} is not auto, cpu, cuda or a list such as cuda:0,cuda:1")
    for name in names:
        if name != CPU and name not in known:
            raise ConfigError(
                f"device {name}: nvidia-smi lists {len(known)} GPU(s) on this machine"
                + (f": {', '.join(known)}" if known else "")
            )
    return names


def dtypes_of(device: str, flags: frozenset[str] | None = None) -> frozenset[str]:
    """The precisions a device can serve, and serves faster than float32.

    A GPU's bf16 needs compute capability 8.0 (Ampere); of a CPU `number_formats` says it. `flags`
    are the CPU's, absent: this machine's.
    """
    if device == CPU:
        return frozenset(name for name, why_not in number_formats(flags).items() if not why_not)
    capability = nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader")
    index = gpu_index(device)
    # a driver that does not answer says so when the model is loaded, and better
    has_bf16 = index >= len(capability) or float(capability[index]) >= 8.0
    return frozenset({"float32", "float16", *(["bfloat16"] if has_bf16 else [])})


def resolve_dtype(requested: str, device: str) -> str:
    """The precision a job gets on a device: `auto` is bf16 on a GPU that has it, else fp32.

    Raises:
        ModelError: the device cannot serve what was asked for.
    """
    can = dtypes_of(device)
    if requested == "auto":
        return "bfloat16" if device != CPU and "bfloat16" in can else "float32"
    if requested not in can:
        raise ModelError(f"dtype {not_served(requested, device)}")
    return requested


def not_served(dtype: str, device: str, flags: frozenset[str] | None = None) -> str:
    """Why a device does not support a precision, and what to do: the end of a sentence."""
    reasons = number_formats(flags) if device == CPU else {"int8": "it is for CPUs"}
    reason = reasons.get(dtype)
    why = f": {reason}" if reason else ""
    can = ", ".join(sorted(dtypes_of(device, flags)))
    return (
        f"{dtype}, which {device} does not serve{why}. It serves {can}: submit the job with "
        "another --dtype, or send it to another queue"
    )


def worker_environment(device: str, threads: int, visible: str | None = None) -> dict[str, str]:
    """The variables a worker process is started with, to be laid over its parent's.

    A GPU worker sees its own GPU only, under the name that `device_inside` gives; `visible` is the
    GPU's UUID, which is stable where device numbers depend on the order of counting.
    """
    shared = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(threads)}
    if device != CPU:
        return shared | {"CUDA_VISIBLE_DEVICES": visible or str(gpu_index(device))}
    own = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return shared | MALLOC_ENVIRONMENT | ONEDNN_ENVIRONMENT | own | {"CUDA_VISIBLE_DEVICES": ""}


def kind_of(device: str) -> str:
    """The kind of device, `cpu` or `cuda`."""
    return device.split(":")[0]


def device_inside(device: str) -> str:
    """The device's name inside the worker: the only visible GPU is `cuda:0`."""
    return CPU if device == CPU else "cuda:0"


# Each operation of torch releases Python's lock. If another thread takes ids from the tokenizer
# meanwhile, the one that launches waits Python's 5 ms for its turn, some 120 times a batch, and the
# device with it. Chosen among 5, 0.5, 0.1 and 0.03 ms: see the log in docs/development/experiments.md.
SWITCH_S = 1e-4


def set_threads(device: str, threads: int) -> None:
    """Set the threads of an operation and Python's switch interval; call it before the model is loaded."""
    import torch

    if device != CPU:
        sys.setswitchinterval(SWITCH_S)
    torch.set_num_threads(threads if device == CPU else 1)


def threads_of(device: str) -> int:
    """Threads per operation, as set in torch."""
    import torch

    return int(torch.get_num_threads()) if device == CPU else 1


def name_of(device: str) -> str:
    """A name of the device for records: the CPU model, or the GPU model with its memory."""
    if device == CPU:
        return cpu_name()
    import torch

    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory >> 20} MiB"


def free_what_is_kept(device: str) -> None:
    """Release the GPU memory that torch caches for the next batch."""
    if device != CPU:
        import torch

        torch.cuda.empty_cache()


def fetch(result: Any) -> Callable[[], np.ndarray]:
    """Start to copy a GPU's tensor to the host, after its batch; the returned function waits for it."""
    import torch

    there = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    there.copy_(result, non_blocking=True)
    # blocking: a waiting thread leaves its core to the tokenizer
    done = torch.cuda.Event(blocking=True)
    done.record()

    def wait() -> np.ndarray:
        import numpy as np

        done.synchronize()
        return np.asarray(there.numpy())

    return wait


def memory_of() -> tuple[int, int]:
    """Used and total bytes of this worker's GPU, for all processes."""
    import torch

    free, total = torch.cuda.mem_get_info(device_inside("cuda"))
    return total - free, total


def is_lost(device: str) -> bool:
    """Whether a GPU returns only errors to this process: then only a new process can continue.

    After an error inside a kernel (an index out of range, memory that fails) each later call
    fails as well. Source: CUDA Runtime API, `cudaErrorAssert` and its neighbours.
    """
    torch = sys.modules.get("torch")
    if device == CPU or torch is None or not torch.backends.cuda.is_built():
        return False  # something else is wrong, not the device
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:  # torch.AcceleratorError, and what it was before torch 2.8
        return True
    return False


class DeviceErrors:
    """The part of an engine that says what an error means for its device."""

    _device: str

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def is_device_lost(self, error: BaseException) -> bool:
        return not is_out_of_memory(error) and is_lost(self._device)


# Batches handed to the device before the answers of the first are asked for. A GPU works on the
# next one while those are decoded; a CPU computes at once, and has nothing to overlap.
IN_FLIGHT = {"cpu": 1, "cuda": 2}


def in_flight_of(device: str) -> int:
    return IN_FLIGHT[kind_of(device)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that a smaller batch could fit.

    By name and message, so that a process that never imported torch can ask: torch raises
    `OutOfMemoryError` on a GPU but a plain `RuntimeError` from its CPU allocator and from cuBLAS.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


_OUT_OF_MEMORY = re.compile(
    r"out of memory|DefaultCPUAllocator|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED", re.I
)
