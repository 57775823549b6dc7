"""Generating engines by name: ours, and those of installed packages by their entry points.

`headrace.tasks.generation.engines` has the names and versions; an engine of ours is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points

from headrace.tasks.generation.engines import GROUP, engine_named
from schemas.errors import ConfigError
from schemas.records.engine import CTRANSLATE2, TRANSFORMERS, VLLM
from workers.engines.generating.base import GeneratingEngine


def _transformers() -> GeneratingEngine:
    from workers.engines.stepwise.engine import StepwiseEngine

    return StepwiseEngine()


def _ctranslate2() -> GeneratingEngine:
    from workers.engines.ctranslate2.engine import CTranslate2Engine

    return CTranslate2Engine()


def _vllm() -> GeneratingEngine:
    from workers.engines.vllm.engine import VllmEngine

    return VllmEngine()


ENGINES: dict[str, Callable[[], GeneratingEngine]] = {
    TRANSFORMERS: _transformers,
    CTRANSLATE2: _ctranslate2,
    VLLM: _vllm,
}


def make_generating_engine(
    name: str, points: Iterable[EntryPoint] | None = None
) -> GeneratingEngine:
    """A new engine with nothing loaded; `points` defaults to what is installed.

    Raises:
        ConfigError: there is no engine of that name, or it cannot be imported.
    """
    if name in ENGINES:
        return ENGINES[name]()
    points = list(entry_points(group=GROUP) if points is None else points)
    engine_named(name, points)
    point = next(p for p in points if p.name == name)
    try:
        engine: GeneratingEngine = point.load()()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"engine {name!r} ({point.value}) cannot be imported: {error}") from error
    return engine
