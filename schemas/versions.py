"""Which versions took part: written into parts, manifests and jobs."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version

NAMED = ("headrace", "torch", "transformers", "tokenizers", "pyarrow", "celery", "kombu", "redis")


@functools.cache
def versions() -> dict[str, str]:
    """Version of each package that decides an answer, where it is installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in NAMED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
