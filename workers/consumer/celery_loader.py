"""Imports the worker's module in its child as any other import does."""

from __future__ import annotations

import importlib
from typing import Any

from celery.loaders.app import AppLoader


class Loader(AppLoader):  # type: ignore[misc]  # Celery has no types
    """Celery's own puts the current folder first on `sys.path` while it imports.

    There a user may have a `schemas/` or a `queue.py`.
    """

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        return importlib.import_module(module, package=package)
