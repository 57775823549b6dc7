"""Where the command `headrace-worker` is, for the producers' side, which never imports it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from schemas.errors import MissingExtra

NAME = "headrace-worker"


def find_worker_executable() -> str:
    """The command beside this Python, else the one on the path.

    Raises:
        MissingExtra: there is none.
    """
    beside = shutil.which(NAME, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(NAME)
    if found is None:
        raise MissingExtra(f"{NAME} is not installed here: pip install 'headrace[cpu]' (or [gpu])")
    return found
