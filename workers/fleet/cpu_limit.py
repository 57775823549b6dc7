"""The CPU limit of this process's container, from Linux's control groups."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cgroup_cpu_limit(root: Path = _CGROUPS, own: Path = _OWN) -> float | None:
    """CPU limit in cores, the smallest of all groups above this process; None: no limit.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (`cpu.max`, two numbers in
    microseconds) and scheduler/sched-bwc.rst (version 1).
    """
    found = [_quota(folder) for folder in _folders(root, own)]
    return min((q for q in found if q is not None), default=None)


def _folders(root: Path, own: Path) -> list[Path]:
    """The process's own groups and their parents; in a container the root is the container's."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            top = root / controllers if controllers else root
            parts = [p for p in path.split("/") if p not in ("", "..")]
            folders += [top.joinpath(*parts[:n]) for n in range(len(parts) + 1)]
    return folders


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        return float(quota) / float(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
