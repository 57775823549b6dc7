"""Engines that generate text, by name, and which package's version decides what they write.

Ours, and those of installed packages by the entry points `headrace.generating_engines`. Used on
both sides, so nothing of an engine is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from types import MappingProxyType
from typing import Any

from headrace.tasks.generation.endpoint import API
from headrace.tasks.generation.row_settings import check_engine
from headrace.tasks.generation.structure import asks_for_form, grammar_version
from headrace.tasks.generation.vllm import vllm_version
from schemas.errors import ConfigError, MissingExtra
from schemas.records.engine import CTRANSLATE2, ENDPOINT, TRANSFORMERS, VLLM

GROUP = "headrace.generating_engines"

OURS: Mapping[str, str] = {
    TRANSFORMERS: "transformers", CTRANSLATE2: "ctranslate2", VLLM: "vllm",
}  # fmt: skip
"""Name of an engine of headrace's own → the package that decides what it writes."""
FOLLOW_GRAMMARS = frozenset({TRANSFORMERS})
"""Those of our own whose answers may have a given form."""
TAKE_ROW_SETTINGS = frozenset({TRANSFORMERS, ENDPOINT})
"""Those of our own whose rows may have settings of their own."""


@dataclass(frozen=True, slots=True)
class EngineName:
    """An engine, as a job's record has it."""

    name: str
    version: str | None
    """Package and version, such as `transformers 5.23.0`; None: the package is not here."""


AT_AN_ENDPOINT = EngineName(ENDPOINT, API)


def engine_named(
    name: str, points: Iterable[EntryPoint] | None = None, *, vllm_python: str | None = None
) -> EngineName:
    """The engine of that name with the version that is installed here; vLLM is in `vllm_python`.

    Raises:
        ConfigError: neither headrace nor an installed package has such an engine, or the Python for
            vLLM does not run.
        MissingExtra: that Python has no vLLM.
    """
    if name == ENDPOINT:
        return AT_AN_ENDPOINT
    if name == VLLM:
        return EngineName(name, None if vllm_python is None else vllm_version(vllm_python))
    if name in OURS:
        return EngineName(name, _version(OURS[name]))
    others = _others(points)
    if name not in others:
        raise ConfigError(
            f"--engine {name}: there is no such engine; there are "
            f"{', '.join(sorted({*OURS, ENDPOINT, *others}))}"
        )
    found = others[name].dist
    return EngineName(name, None if found is None else f"{found.name} {found.version}")


def with_form(engine: EngineName, params: Mapping[str, Any]) -> EngineName:
    """The engine of a job with these parameters: its version names what follows a form too.

    Raises:
        ConfigError: answers have a given form, or rows their own settings, which the engine cannot
            keep.
        MissingExtra: what follows a form is not installed.
    """
    if engine.name in OURS:
        check_engine(engine.name, engine.name in TAKE_ROW_SETTINGS, params)
    if not asks_for_form(params):
        return engine
    if engine.name == ENDPOINT:  # the API follows the form, and its check finds other options
        return engine
    if engine.name in OURS and engine.name not in FOLLOW_GRAMMARS:
        raise ConfigError(
            f"--engine {engine.name} cannot follow --schema or --choices: use --engine "
            f"{TRANSFORMERS}"
        )
    version = engine.version and f"{engine.version}, {grammar_version()}"
    return EngineName(engine.name, version)


def version_here(
    name: str,
    points: Iterable[EntryPoint] | None = None,
    params: Mapping[str, Any] = MappingProxyType({}),
    *,
    vllm_python: str | None = None,
) -> str | None:
    """The installed version of that engine for a job with these parameters; None: there is none."""
    try:
        return with_form(engine_named(name, points, vllm_python=vllm_python), params).version
    except (ConfigError, MissingExtra):
        return None


def engine_names(points: Iterable[EntryPoint] | None = None) -> list[str]:
    """All of them, by name."""
    return sorted({*OURS, ENDPOINT, *_others(points)})


def _others(points: Iterable[EntryPoint] | None) -> dict[str, EntryPoint]:
    return {p.name: p for p in (entry_points(group=GROUP) if points is None else points)}


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None
