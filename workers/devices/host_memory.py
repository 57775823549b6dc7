"""Memory of this process's container, from Linux's control groups."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def container_limit_bytes(root: Path = _CGROUPS) -> int | None:
    """The container's limit; None: it has none, or there is no control group.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, `memory.max`
    """
    return _number(root / "memory.max")


def container_used_bytes(root: Path = _CGROUPS) -> int | None:
    """What the container uses now; None: there is no control group."""
    return _number(root / "memory.current")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" where there is no limit
        return None
