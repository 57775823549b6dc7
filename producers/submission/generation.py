"""What a job that generates is expected to compute, and the settings that it will have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.assumptions import BYTES_PER_TOKEN
from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.languages import COLUMNS, SOURCE, TARGET
from headrace.tasks.generation.row_settings import COLUMN as OWN_SETTINGS
from headrace.tasks.generation.settings import GenerationSettings, settings_of
from headrace.tasks.generation.structure import described_form
from producers.models.info import ModelInfo

SHARE_OF_MOST = 0.5
"""Of the most tokens that an answer may have, how many it has. Chosen: the text decides."""
COST_OF_NEW = 2.0
"""A generated token beside one that is read with many others at once. Chosen, for rows that run
together; a row alone costs many times as much."""


def generation_of(
    task: str, params: Mapping[str, Any], model: ModelInfo
) -> GenerationSettings | None:
    """The settings; None for another kind of task, or where the model's files are not here.

    Raises:
        ConfigError, ModelError: see `settings_of`.
    """
    if not task_spec(task).generates or model.read is None:
        return None
    return settings_of(task, model.read, params, model.ref.uri)


def new_tokens(settings: GenerationSettings | None) -> float:
    """Tokens that are generated for a row, as far as can be known; 0 if the job does not generate."""
    if settings is None:
        return 0.0
    return SHARE_OF_MOST * max(1, settings.most_new_tokens) * settings.samples


def read_tokens(settings: GenerationSettings | None) -> float:
    """As many tokens of a prompt take as much time as what is generated for a row."""
    return 0.0 if settings is None else COST_OF_NEW * settings.beams * new_tokens(settings)


def work_per_token(settings: GenerationSettings | None, text_bytes: int, rows: int) -> float:
    """The work of a job for each token that it reads, at least 1: reading is 1, and writing more."""
    read = max(1.0, text_bytes / max(1, rows) / BYTES_PER_TOKEN)
    return 1.0 + read_tokens(settings) / read


def shown_settings(
    settings: GenerationSettings | None, params: Mapping[str, Any]
) -> dict[str, str]:
    """Each setting with what says it, for people; `params` are the options of the job's task."""
    if settings is None:
        return {}
    found = {
        name: f"{_value(value)} ({settings.said_by[name]})"
        for name, value in sorted(settings.values.items())
    }
    if settings.samples > 1:
        found["num_samples"] = f"{settings.samples} (--num-samples)"
    if settings.prefix:
        found["prefix"] = repr(settings.prefix)
    if settings.stop:
        found["stop"] = ", ".join(map(repr, settings.stop))
    for name in (SOURCE, TARGET):
        if params.get(name) is not None:
            found[name] = f"{params[name]} ({_option(name)})"
    for name, column in (*COLUMNS.items(), ("settings of rows", OWN_SETTINGS)):
        if params.get(column) is not None:
            found[name] = f"column {params[column]} ({_option(column)})"
    return found | described_form(settings.grammar)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
