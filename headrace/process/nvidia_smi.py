"""Asks `nvidia-smi` about this machine's GPUs. No torch."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache


def ask_nvidia_smi(*arguments: str) -> tuple[str, ...] | None:
    """The lines it prints, stripped, without empty ones; None without the program or the driver.

    Each query runs once per process: it takes a tenth of a second to several seconds with many
    GPUs, and workers ask for each message. A query that failed is run again.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        return _answer(program, *arguments)
    except (OSError, subprocess.SubprocessError):
        return None  # the command exists without a driver: the same as no GPU


@cache
def _answer(*command: str) -> tuple[str, ...]:
    # 20 s: the first call after boot loads the driver
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
