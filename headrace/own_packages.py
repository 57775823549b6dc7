"""Finds headrace's own packages beside this one, whatever the current folder has.

Their names are common words. Without this, a user's folder `schemas` or a file `workers.py`, which
comes first on the path of a script or a notebook, would be imported in their place. The same holds
for `queue`, a module of the standard library that most of our dependencies import.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OWN = ("schemas", "producers", "workers")
_BESIDE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PLACES = {**dict.fromkeys(OWN, _BESIDE), "queue": sysconfig.get_path("stdlib")}


class OwnPackages(MetaPathFinder):
    """Finds the packages of `OWN` beside headrace and `queue` in Python's library; nothing else."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if path is not None or fullname not in _PLACES:
            return None
        return PathFinder.find_spec(fullname, [_PLACES[fullname]])


def find_own_packages_first() -> None:
    """Put the finder first, once.

    Raises:
        ImportError: a module of the user with one of the names was imported before.
    """
    for name in OWN:
        module = sys.modules.get(name)
        if module is not None and not _is_ours(module, name):
            place = getattr(module, "__file__", None) or getattr(module, "__path__", "?")
            raise ImportError(
                f"a module {name!r} of yours is imported already ({place}), and headrace has a "
                f"package of that name: rename yours, or import headrace in another process"
            )
    if not any(isinstance(finder, OwnPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnPackages())


def _is_ours(module: ModuleType, name: str) -> bool:
    return [os.path.abspath(p) for p in getattr(module, "__path__", ())] == [f"{_BESIDE}/{name}"]
