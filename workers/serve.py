"""`python -m workers.serve [CORE …]`: one worker process, the fleet's child.

Its settings are in the environment; the cores it is to keep to are its arguments.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings

from schemas.collection import no_collection
from schemas.settings import load_settings


def main() -> None:
    """Serve the queues of the settings until SIGTERM."""
    _die_with_parent()
    _keep_to(sys.argv[1:])  # before anything counts the cores to size its pool of threads
    with no_collection():
        from celery.platforms import SecurityWarning

        from workers.celery_app import serve

    # about pickle under root; JSON is all we accept, and a container's user is its image's affair
    warnings.simplefilter("ignore", SecurityWarning)

    settings = load_settings()
    sys.exit(serve(settings, [settings.queue]))


def _die_with_parent() -> None:
    """A fleet killed with -9 takes its workers along: nobody else would stop them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _keep_to(cores: list[str]) -> None:
    """Use these cores only; processes started later inherit it. A core that is gone is let go."""
    if cores and hasattr(os, "sched_setaffinity"):
        allowed = {int(c) for c in cores} & os.sched_getaffinity(0)
        if allowed:
            os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    main()
