"""Engines that generate text, by name, and which package's version decides what they write.

Ours, and those of installed packages by the entry points `headrace.generating_engines`. Used on
both sides, so nothing of an engine is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

from schemas.errors import ConfigError
from schemas.records.engine import CTRANSLATE2, TRANSFORMERS

GROUP = "headrace.generating_engines"

OURS: Mapping[str, str] = {TRANSFORMERS: "transformers", CTRANSLATE2: "ctranslate2"}
"""Name of an engine of headrace's own → the package that decides what it writes."""


@dataclass(frozen=True, slots=True)
class EngineName:
    """An engine, as a job's record has it."""

    name: str
    version: str | None
    """Package and version, such as `transformers 5.23.0`; None: the package is not here."""


def engine_named(name: str, points: Iterable[EntryPoint] | None = None) -> EngineName:
    """The engine of that name with the version that is installed here.

    Raises:
        ConfigError: neither headrace nor an installed package has such an engine.
    """
    if name in OURS:
        return EngineName(name, _version(OURS[name]))
    others = _others(points)
    if name not in others:
        raise ConfigError(
            f"--engine {name}: there is no such engine; there are "
            f"{', '.join(sorted({*OURS, *others}))}"
        )
    found = others[name].dist
    return EngineName(name, None if found is None else f"{found.name} {found.version}")


def version_here(name: str, points: Iterable[EntryPoint] | None = None) -> str | None:
    """The installed version of that engine; None where there is none."""
    try:
        return engine_named(name, points).version
    except ConfigError:
        return None


def engine_names(points: Iterable[EntryPoint] | None = None) -> list[str]:
    """All of them, by name."""
    return sorted({*OURS, *_others(points)})


def _others(points: Iterable[EntryPoint] | None) -> dict[str, EntryPoint]:
    return {p.name: p for p in (entry_points(group=GROUP) if points is None else points)}


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None
