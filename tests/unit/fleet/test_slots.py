"""Where workers go: GPUs by UUID, slices, cores shared without overlap, and who leaves first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.settings import load_settings
from workers.devices.device import dtypes_of
from workers.devices.gpus import (
    Gpu,
    cores_near,
    parse_cpu_list,
    parse_gpus,
)
from workers.fleet.cpu_limit import cgroup_cpu_limit
from workers.fleet.slots import (
    node_of_cores,
    plan_slots,
    split_cores,
)

LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 2g.10gb     Device  1: (UUID: MIG-GPU-5d5ba0d6/7/0)
GPU 1: NVIDIA H200 (UUID: GPU-11111111-d33d-2b2c-524d-9e3d8d2b8a77)
"""
SMI = f"""#!/bin/sh
case "$*" in
-L) cat <<'END'
{LISTING}END
;;
*bus_id*) echo 00000000:3B:00.0; echo 00000000:AF:00.0 ;;
*) echo 8.0; echo 9.0 ;;
esac
"""


@pytest.fixture
def sliced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an A100 in two slices and a whole H200."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_slices_stand_in_the_place_of_their_gpu() -> None:
    assert parse_gpus(LISTING.splitlines()) == [
        Gpu("cuda:0.0", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"),
        Gpu("cuda:0.1", "MIG-GPU-5d5ba0d6/7/0"),
        Gpu("cuda:1", "GPU-11111111-d33d-2b2c-524d-9e3d8d2b8a77"),
    ]


@pytest.mark.usefixtures("sliced")
def test_a_gpu_worker_sees_its_own_by_uuid() -> None:
    slots = plan_slots(load_settings(device="auto"), range(16))
    assert [s.device for s in slots] == ["cuda:0.0", "cuda:0.1", "cuda:1"]
    seen = [s.environment()["CUDA_VISIBLE_DEVICES"] for s in slots]
    assert seen == [g.uuid for g in parse_gpus(LISTING.splitlines())]
    assert slots[2].environment()["HEADRACE_DEVICE"] == "cuda:1"
    assert "bfloat16" in dtypes_of("cuda:0.1")


@pytest.mark.usefixtures("sliced")
def test_a_gpu_worker_is_kept_near_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "0000:af:00.0").mkdir()
    (tmp_path / "0000:af:00.0" / "local_cpulist").write_text("8-11,24\n")
    assert cores_near("cuda:1", tmp_path) == [8, 9, 10, 11, 24]
    assert cores_near("cuda:0.1", tmp_path) == []


def test_there_are_as_many_workers_as_their_threads_have_cores_for() -> None:
    slots = plan_slots(load_settings(device="cpu", threads=4), range(9))
    assert [slot.threads for slot in slots] == [4, 4]
    assert [s.threads for s in plan_slots(load_settings(device="cpu", threads=9), range(2))] == [9]


def test_a_cpu_worker_has_threads_and_cores_of_its_own() -> None:
    slots = plan_slots(load_settings(device="cpu", workers=2), range(8))
    assert [s.cores for s in slots] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert slots[0].environment()["OMP_NUM_THREADS"] == "4"
    assert slots[0].environment()["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("granted", "count", "slots", "threads"),
    [(4.0, None, 4, 1), (2.5, None, 2, 1), (0.5, None, 1, 1), (8.0, 2, 2, 4), (99.0, None, 64, 1)],
)
def test_a_containers_share_of_a_large_machine_is_what_is_shared(
    granted: float, count: int | None, slots: int, threads: int
) -> None:
    found = plan_slots(load_settings(device="cpu"), range(64), count, granted)
    assert [s.threads for s in found] == [threads] * slots
    # the neighbours' containers would all choose the first cores
    assert all(s.cores == () for s in found) or granted > 64


@pytest.mark.parametrize(
    ("files", "own", "granted"),
    [
        ({"cpu.max": "400000 100000\n"}, "0::/\n", 4.0),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "max 100000\n", "a/cpu.max": "150000 100000"}, "0::/a/b\n", 1.5),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, "0::/a/b\n", 2.0),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            "4:memory:/x\n3:cpu,cpuacct:/pod1\n0::/\n",
            0.5,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/\n", None),
        ({"cpu.max": "nonsense"}, "0::/../..\n", None),
        ({}, "0::/\n", None),
    ],
)
def test_a_cpu_limit_is_read_as_the_kernel_keeps_it(
    tmp_path: Path, files: dict[str, str], own: str, granted: float | None
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert cgroup_cpu_limit(tmp_path / "cgroup", tmp_path / "own") == granted
    assert cgroup_cpu_limit(tmp_path / "cgroup", tmp_path / "none") is None


def test_a_worker_whose_fleet_is_gone_already_does_not_begin() -> None:
    """The kernel tells a child of its parent's death only where that is still to come."""
    command = [
        sys.executable,
        "-m",
        "workers.consumer",
        "--parent=1",
        "0",
    ]  # we are its parent
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    done = subprocess.run(command, env=kept, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(1, 70))
def test_shares_of_cores_do_not_overlap_and_leave_none_over(cores: set[int], count: int) -> None:
    shares = split_cores(sorted(cores), count, {c: c % 2 for c in cores})
    assert len(shares) == count
    if 1 < count <= len(cores):
        assert sorted(c for share in shares for c in share) == sorted(cores)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    else:
        assert shares == [()] * count


def test_a_share_stays_on_one_node_where_it_fits() -> None:
    nodes = {0: 0, 1: 1, 2: 0, 3: 1}
    assert split_cores([0, 1, 2, 3], 2, nodes) == [(0, 2), (1, 3)]


def test_nodes_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    for node, text in {"node0": "0-1,4\n", "node1": "2-3\n", "node2": "\n"}.items():
        (tmp_path / node).mkdir()
        (tmp_path / node / "cpulist").write_text(text)
    assert node_of_cores(tmp_path) == {0: 0, 1: 0, 4: 0, 2: 1, 3: 1}
    assert parse_cpu_list("") == []
