"""The settings of a worker process, loaded once: Celery calls us back without them."""

from __future__ import annotations

from functools import cache

from headrace.settings import Settings, load_settings


@cache
def process_settings() -> Settings:
    """The settings that the fleet put into this process's environment."""
    return load_settings()
