"""Faults on demand, for tests: `HEADRACE_FAULT=kill:committed:3` kills at the third commit.

`kill:STEP:N[:FLAG]` — SIGKILL to this process when STEP is reached for the Nth time; with a FLAG
(a path) only the process that makes the file does it, so that a fleet dies once. Several are
separated by commas.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable

from schemas.errors import ConfigError

CHUNK_STEPS = (
    "received",
    "acknowledged",
    "leased",
    "read",
    "tokenized",
    "forwarded",
    "uploaded",
    "committed",
    "dropped",
    "released",
)
TRAINING_STEPS = ("trained", "checkpoint_files", "checkpoint", "model", "model_published")
STEPS = CHUNK_STEPS + TRAINING_STEPS


def fault_hook(setting: str | None) -> Callable[[str], None]:
    """The function to call at each step; without a setting it does nothing.

    Raises:
        ConfigError: the setting cannot be parsed.
    """
    if not setting:
        return lambda step: None
    kills = [_parse(one) for one in setting.split(",")]
    seen: Counter[str] = Counter()

    def hook(reached: str) -> None:
        seen[reached] += 1
        for step, nth, flag in kills:
            if reached == step and seen[reached] == nth and (flag is None or _first(flag)):
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _parse(one: str) -> tuple[str, int, str | None]:
    parts = one.split(":", 3)
    if len(parts) < 3 or parts[0] != "kill" or parts[1] not in STEPS or not parts[2].isdigit():
        raise ConfigError(f"fault {one!r} is not of the form kill:STEP:N[:FLAG]")
    return parts[1], int(parts[2]), parts[3] if len(parts) == 4 else None


def _first(flag: str) -> bool:
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
