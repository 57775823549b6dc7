"""`python -m workers.serve`: one worker process, its settings in the environment. The fleet's child."""

from __future__ import annotations

import ctypes
import signal
import sys
import warnings

from schemas.settings import load_settings


def main() -> None:
    """Serve the queues of the settings until SIGTERM."""
    _die_with_parent()
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


if __name__ == "__main__":
    main()
