"""A disk that is really full: a file system of a few megabytes, and a corpus that does not fit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ExitCode
from tests.conftest import wait_until
from tests.system.conftest import missing

BIN = Path(sys.executable).parent
ROOM_BYTES = 1 << 20
SHM = Path("/dev/shm")


@dataclass(frozen=True)
class SmallDisk:
    """A folder on a file system with about a megabyte of room, until `make_room`."""

    folder: Path
    filler: Path

    def make_room(self) -> None:
        self.filler.unlink()

    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A tmpfs of our own; where nothing may be mounted, a container's small /dev/shm."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "headrace", str(point)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    if not mounted:
        found = os.statvfs(SHM)
        if found.f_bavail * found.f_frsize > 256 << 20:
            missing("a file system to fill: mount needs root, and /dev/shm is large")
        point = SHM / f"headrace-{os.getpid()}"
        point.mkdir()
    disk = SmallDisk(point, point / "filler")
    try:
        with disk.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.free_bytes() - ROOM_BYTES)
        yield disk
    finally:
        if mounted:
            subprocess.run(["umount", str(point)], check=True)
        else:
            subprocess.run(["rm", "-rf", str(point)], check=True)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}

    def start(*words: str) -> subprocess.Popen[str]:
        with (tmp_path / "err").open("a") as said:
            process = subprocess.Popen(
                [str(BIN / "headrace"), *words],
                env=kept | {"XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "200"},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                text=True, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def words(small_disk: SmallDisk, tmp_path: Path) -> tuple[str, ...]:
    """A run whose output, 3 MB, does not fit."""
    rng = random.Random(1)
    rows = {
        "text": [f"row {i}" for i in range(2_000)],
        "more": ["".join(rng.choices("abcdefghij0123456789", k=1_500)) for _ in range(2_000)],
    }
    pq.write_table(pa.table(rows), tmp_path / "corpus.parquet", row_group_size=100)
    return (
        "run", str(tmp_path / "corpus.parquet"), "-o", str(small_disk.folder / "out"),
        "--task", "fake", "--columns", "more", "--chunk-rows", "100", "--workers", "1",
    )  # fmt: skip


def test_a_disk_that_stays_full_ends_the_command_in_time(
    command: Callable[..., subprocess.Popen[str]],
    small_disk: SmallDisk,
    words: tuple[str, ...],
    tmp_path: Path,
) -> None:
    assert command(*words, "--give-up-after", "3s").wait(120) == ExitCode.DISK_FULL
    said = (tmp_path / "err").read_text()
    assert "waited 3 s for the store (--give-up-after): no space left" in said
    small_disk.make_room()
    assert command("resume", str(small_disk.folder / "out")).wait(120) == ExitCode.OK


def test_a_full_disk_is_said_leaves_no_half_part_and_is_gone_on_from(
    command: Callable[..., subprocess.Popen[str]],
    small_disk: SmallDisk,
    words: tuple[str, ...],
    tmp_path: Path,
) -> None:
    output = small_disk.folder / "out"
    first = command(*words)
    said = tmp_path / "err"
    wait_until(lambda: "disk_full: no space left" in said.read_text(), 60, "the command to say it")
    there = [pq.read_table(path).num_rows for path in (output / "data").iterdir()]
    assert there == [100] * len(there)  # each is whole
    assert 0 < len(there) < 20
    first.send_signal(signal.SIGTERM)  # the night is over; a person makes room and continues
    assert first.wait(60) == ExitCode.INTERRUPTED
    assert list((output / "_headrace" / "tmp").iterdir()) == []
    small_disk.make_room()
    assert command("resume", str(output)).wait(120) == ExitCode.OK
    assert command("verify", str(output)).wait(60) == ExitCode.OK
