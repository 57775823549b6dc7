"""Engines by name: ours, and those of installed packages by the entry points `headrace.engines`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points

from schemas.errors import ConfigError
from schemas.records.engine import PACKED
from workers.engines.base import Engine

GROUP = "headrace.engines"


def _packed() -> Engine:
    from workers.engines.packed.engine import PackedEngine

    return PackedEngine()


ENGINES: dict[str, Callable[[], Engine]] = {PACKED: _packed}


def make_engine(name: str, points: Iterable[EntryPoint] | None = None) -> Engine:
    """A new engine with nothing loaded; `points` defaults to what is installed.

    Raises:
        ConfigError: no installed package has an engine of that name, or it cannot be imported.
    """
    if name in ENGINES:
        return ENGINES[name]()
    others = {p.name: p for p in (entry_points(group=GROUP) if points is None else points)}
    if name not in others:
        raise ConfigError(
            f"this worker has no engine {name!r}; it has {', '.join(sorted({*ENGINES, *others}))}"
        )
    try:
        engine: Engine = others[name].load()()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"engine {name!r} ({others[name].value}) cannot be imported: {error}"
        ) from error
    return engine
