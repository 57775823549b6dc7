"""`python -m workers.consumer [--parent=PID] [CORE …]`: one worker process, the fleet's child.

Its settings are in the environment. Its arguments are its parent's process id and the cores to use.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings

from headrace.process.fast_imports import fast_imports

PARENT = "--parent="


def main() -> None:
    """Serve the queues of the settings until SIGTERM."""
    words = [a for a in sys.argv[1:] if a.startswith(PARENT)]
    if not _die_with_parent(int(words[0].removeprefix(PARENT)) if words else None):
        return
    # before anything counts the cores to size its pool of threads
    _keep_to([a for a in sys.argv[1:] if a not in words])
    with fast_imports():
        from celery.platforms import SecurityWarning

        from workers.consumer.app import serve
        from workers.consumer.process_settings import process_settings

    # about pickle under root; JSON is all we accept, and a container's user is its image's affair
    warnings.simplefilter("ignore", SecurityWarning)

    settings = process_settings()
    sys.exit(serve(settings, [settings.queue]))


def _die_with_parent(parent: int | None) -> bool:
    """Make this worker die if its fleet is killed with SIGKILL: nothing else would stop it.

    False if the fleet ended before the call: the kernel signals only later deaths.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return parent is None or os.getppid() == parent


def _keep_to(cores: list[str]) -> None:
    """Use these cores only; processes started later inherit it. Missing cores are ignored."""
    if cores and hasattr(os, "sched_setaffinity"):
        allowed = {int(c) for c in cores} & os.sched_getaffinity(0)
        if allowed:
            os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    main()
