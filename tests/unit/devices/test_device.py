"""Devices are listed without torch, and each worker gets the environment it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.process.cpu import multiplies_bf16, parse_flags
from producers.capacity.device_hint import query_gpus
from schemas.errors import ConfigError, ModelError
from workers.devices.device import (
    device_inside,
    dtypes_of,
    is_out_of_memory,
    list_devices,
    not_served,
    resolve_dtype,
    worker_environment,
)

NVIDIA_SMI = """#!/bin/sh
case "$1" in
-L) echo "GPU 0: NVIDIA H200 (UUID: GPU-1)"; echo "GPU 1: Tesla T4 (UUID: GPU-2)" ;;
*) echo 9.0; echo 7.5 ;;
esac
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose nvidia-smi lists an H200 and a T4."""
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the command and without the driver."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_is_a_device() -> None:
    assert list_devices("auto") == ["cuda:0", "cuda:1"]
    assert list_devices("cuda") == ["cuda:0", "cuda:1"]
    assert list_devices("cuda:1, cpu") == ["cuda:1", "cpu"]
    with pytest.raises(ConfigError, match="lists 2"):
        list_devices("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_device_is_the_cpu() -> None:
    assert list_devices("auto") == ["cpu"]
    with pytest.raises(ConfigError, match="no GPU"):
        list_devices("cuda")


@pytest.mark.parametrize(("status", "asked"), [(0, 1), (9, 3)])
def test_nvidia_smi_is_asked_once_unless_it_failed(
    status: int, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, calls = tmp_path / "nvidia-smi", tmp_path / "calls"
    program.write_text(f"#!/bin/sh\necho asked >> {calls}\necho 7.5\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = [dtypes_of("cuda:0") for _ in range(3)]
    # a driver that does not answer now may do so when the model is loaded, or say why not
    assert all(("bfloat16" in dtypes) == (status != 0) for dtypes in found)
    assert len(calls.read_text().splitlines()) == asked
    calls.unlink()
    for _ in range(3):
        query_gpus()
    assert len(calls.read_text().splitlines()) == asked


@pytest.mark.parametrize("spec", ["", "gpu", "cuda:x", "cpu;cpu"])
def test_a_device_that_means_nothing_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="is not auto"):
        list_devices(spec)


@pytest.mark.usefixtures("two_gpus")
def test_auto_is_the_best_precision_the_device_has() -> None:
    assert resolve_dtype("auto", "cpu") == "float32"
    assert resolve_dtype("auto", "cuda:0") == "bfloat16"
    assert resolve_dtype("auto", "cuda:1") == "float32"
    assert dtypes_of("cuda:1") == {"float32", "float16"}
    with pytest.raises(ModelError, match="cuda:1"):
        resolve_dtype("bfloat16", "cuda:1")


@pytest.mark.parametrize(
    ("info", "machine", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", "x86_64", True),
        ("processor : 0\nflags : fpu amx_bf16 amx_tile\n", "x86_64", True),
        ("flags\t\t: fpu avx2 avx512f\n", "x86_64", False),
        ("Features\t: fp asimd bf16 i8mm\n", "aarch64", True),
        ("Features\t: fp asimd\n", "aarch64", False),
        ("flags : bf16\n", "x86_64", False),
        ("", "x86_64", False),
    ],
)
def test_a_cpu_that_multiplies_bfloat16_is_known_by_its_flags(
    info: str, machine: str, expected: bool
) -> None:
    assert multiplies_bf16(parse_flags(info), machine) is expected


ZEN_3 = frozenset({"avx", "avx2", "fma"})
SKYLAKE_SERVER = ZEN_3 | {"avx512f", "avx512bw"}
CASCADE_LAKE = SKYLAKE_SERVER | {"avx512_vnni"}
SAPPHIRE_RAPIDS = CASCADE_LAKE | {"avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
ALDER_LAKE = ZEN_3 | {"avx_vnni"}


@pytest.mark.parametrize(
    ("flags", "served"),
    [
        (frozenset(), {"float32"}),
        (frozenset({"sse4_2", "avx"}), {"float32"}),
        (ZEN_3, {"float32", "int8"}),
        (ALDER_LAKE, {"float32", "int8"}),
        (SKYLAKE_SERVER, {"float32"}),
        (CASCADE_LAKE, {"float32", "int8"}),
        (SAPPHIRE_RAPIDS, {"float32", "int8", "bfloat16"}),
    ],
)
def test_a_cpu_serves_what_its_flags_say(flags: frozenset[str], served: set[str]) -> None:
    assert dtypes_of("cpu", flags) == served


def test_what_a_device_does_not_serve_has_a_reason() -> None:
    assert "several times slower" in not_served("bfloat16", "cpu", ZEN_3)
    assert "VNNI" in not_served("int8", "cpu", SKYLAKE_SERVER)
    assert "it is for GPUs" in not_served("float16", "cpu", ZEN_3)
    assert "it is for CPUs" in not_served("int8", "cuda:0")


def test_a_cpu_worker_keeps_its_memory_and_its_threads() -> None:
    environment = worker_environment("cpu", threads=2)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["MALLOC_MMAP_THRESHOLD_"] == str(1 << 30)
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_worker_sees_its_own_gpu_only() -> None:
    assert worker_environment("cuda:3", threads=2)["CUDA_VISIBLE_DEVICES"] == "3"
    assert device_inside("cuda:3") == "cuda:0"
    assert device_inside("cpu") == "cpu"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_known_by_its_name_and_words(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_listing_devices_does_not_import_torch() -> None:
    code = (
        "import sys; from workers.devices.device import list_devices; list_devices('cpu'); "
        "print('torch' in sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "False"
