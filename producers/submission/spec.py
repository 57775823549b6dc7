"""Turns settings into the parts of a job's record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast, get_args

from headrace.formats.template import Template, parse_template
from headrace.process.cpu import INT8_NEEDS
from headrace.setting_fields import declared_settings
from headrace.settings import Settings
from headrace.tasks.answers import LATEST, AskedModel, Change, changes_of, version_of
from headrace.tasks.catalog import BUILT_IN, task_spec
from headrace.tasks.generation.endpoint import check_endpoint
from headrace.tasks.generation.engines import EngineName, engine_named, with_form
from headrace.tasks.generation.vllm import check_vllm
from headrace.tasks.items.windows import reads_windows
from headrace.tasks.spec import TaskSpec
from producers.capacity.device_hint import DeviceHint
from producers.models.info import ModelInfo
from producers.planning.columns import ColumnRequest
from producers.planning.corpus import (
    Corpus,
)
from producers.submission.deadline import deadline_of
from schemas.errors import ConfigError
from schemas.records.engine import ENDPOINT, PACKED
from schemas.records.job import (
    Options,
    ResolvedDtype,
    Spec,
)
from schemas.records.text_source import made_text, template_in


def resolve_dtype(dtype: str, hint: DeviceHint) -> ResolvedDtype:
    """The precision that `auto` means on the device.

    Raises:
        ConfigError: the device does not serve it.
    """
    if dtype == "auto":
        return "bfloat16" if hint.kind == "cuda" and hint.bf16 else "float32"
    if dtype == "int8" and not hint.int8:
        raise ConfigError(
            f"--dtype int8: {hint.name or hint.kind} does not serve it. It is for CPUs with "
            f"{INT8_NEEDS}: use --device cpu, or the queue of such workers"
        )
    for known in get_args(ResolvedDtype):
        if dtype == known:
            return cast(ResolvedDtype, known)
    raise ConfigError(f"--dtype {dtype} is not one of {', '.join(get_args(ResolvedDtype))}")


def task_params(settings: Settings, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What the task is given: its own options, and nothing of another task's.

    Raises:
        ConfigError: `extra` has a name that is no option of the task, or a value of another type.
    """
    task = task_spec(settings.task)
    own = {p.name: getattr(settings, p.name) for p in task.params} if task.name in BUILT_IN else {}
    return task.resolve(own | dict(extra))


def pair_source(settings: Settings, params: Mapping[str, Any]) -> str | None:
    """The name of a row's second text: a column's, or a template's of several, whatever option names it.

    Raises:
        ConfigError: `--text-pair-column` for a task that takes no second text, or not by that name.
    """
    task = task_spec(settings.task)
    given = settings.text_pair_column
    if not task.pair_options:
        if given and not task.pairs:
            raise ConfigError(f"--text-pair-column has no meaning for {settings.task}")
        if given and reads_windows(params):
            raise ConfigError("--text-pair-column has no meaning with --long-text window")
        if task.needs_pair and not given:
            raise ConfigError(f"{settings.task} needs a second text: --text-pair-column")
        return given
    columns = pair_columns(task, params)
    if given is not None and given not in columns:
        option = task.pair_options[-1].replace("_", "-")
        raise ConfigError(f"--text-pair-column has no meaning for {settings.task}: use --{option}")
    if len(columns) < 2:
        return next(iter(columns), None)
    for name in columns:
        if "{" in name or "}" in name:
            raise ConfigError(f"--{columns[name]} {name}: braces in a column's name: rename it")
    return made_text(str(Template(("", *["\t"] * (len(columns) - 1), ""), tuple(columns))))


def pair_columns(task: TaskSpec, params: Mapping[str, Any]) -> dict[str, str]:
    """Columns with a row's second text → the option that names each.

    Raises:
        ConfigError: one is named by two options.
    """
    found: dict[str, str] = {}
    for name in task.pair_options:
        option, column = name.replace("_", "-"), params.get(name)
        if column in found:
            raise ConfigError(f"--{found[column]} and --{option} name one column: {column}")
        if column is not None:
            found[column] = option
    return found


def text_source(settings: Settings) -> str:
    """The name of the job's texts: a column's, or a template's, see `schemas.records.text_source`.

    Raises:
        ConfigError: the template has no meaning, or there is a text column beside it.
    """
    template = template_of(settings)
    messages = messages_column(settings)
    if messages is not None:
        if template or settings.text_column not in ("", messages, _usual_column()):
            raise ConfigError("--messages-column names the texts itself: leave the others out")
        return messages
    if not template:
        return settings.text_column
    if settings.text_column not in ("", _usual_column()):
        raise ConfigError(
            "--text and --text-column contradict one another: --text names columns itself"
        )
    return made_text(str(parse_template(template)))


def template_of(settings: Settings) -> str | None:
    """The template of the job's texts: `--text`, or what a task that takes prompts calls it.

    Raises:
        ConfigError: both are given.
    """
    prompt: str | None = None
    if any(param.name == "prompt" for param in task_spec(settings.task).params):
        prompt = getattr(settings, "prompt", None)
    if settings.text and prompt and settings.text != prompt:
        raise ConfigError("--text and --prompt contradict one another: both make the prompt")
    return settings.text or prompt


def messages_column(settings: Settings) -> str | None:
    """The column with the messages of a chat, where the task reads one."""
    if all(param.name != "messages_column" for param in task_spec(settings.task).params):
        return None
    return getattr(settings, "messages_column", None)


def _usual_column() -> Any:
    return declared_settings()["text_column"].default


def columns_wanted(settings: Settings, params: Mapping[str, Any]) -> ColumnRequest:
    return ColumnRequest(
        task=settings.task,
        text=text_source(settings),
        pair=pair_source(settings, params),
        pair_options=pair_columns(task_spec(settings.task), params),
        id=settings.id_column,
        carried=settings.columns,
        pair_is_list=task_spec(settings.task).pair_may_be_list,
        more_answers=task_spec(settings.task).more_columns(params),
    )


def engine_of(settings: Settings) -> EngineName:
    """The engine that runs the model. A job has one engine in one version, on all workers.

    Raises:
        ConfigError: there is no such engine, or the task has no choice.
    """
    task = task_spec(settings.task)
    usual = task.engine or PACKED
    if task.generates:
        check_endpoint(settings.engine, settings.task, task_params(settings, {}))
        check_vllm(settings.engine, settings.task, None)
        return engine_named(settings.engine or usual, vllm_python=settings.vllm_python)
    if settings.engine not in (None, usual):
        raise ConfigError(
            f"--engine has no meaning for {settings.task}: its model does not generate"
        )
    return EngineName(usual, None)


def spec_of(
    settings: Settings,
    corpus: Corpus,
    model: ModelInfo,
    hint: DeviceHint,
    params: Mapping[str, Any],
) -> Spec:
    """The spec; `params` are what `task_params` gives."""
    task = task_spec(settings.task)
    engine = engine_of(settings)
    has_files = task.needs_model and engine.name != ENDPOINT
    if task.generates:
        engine = with_form(engine, params)
    if task.generates and settings.dtype == "int8":
        raise ConfigError(f"--dtype int8 is not for {settings.task}: use bfloat16")
    source, second = text_source(settings), pair_source(settings, params)
    return Spec(
        inputs_digest=corpus.digest,
        text_column="" if template_in(source) else source,
        text=template_in(source),
        text_pair_column=None if second is None or template_in(second) else second,
        text_pair=None if second is None else template_in(second),
        id_column=settings.id_column,
        columns=settings.columns,
        task=settings.task,
        params=dict(params),
        model=model.ref,
        dtype=resolve_dtype(settings.dtype, hint) if has_files else "float32",
        max_length=settings.max_length,
        limit=settings.limit,
        engine=engine.name,
        engine_version=engine.version,
        answers_version=_answers_version(settings.task, params, settings.max_length, model),
    )


def answers_changed(
    task: str, params: Mapping[str, Any], max_length: int | None, model: ModelInfo
) -> list[Change]:
    """What changed in how headrace answers such a job; empty if the files cannot be read here."""
    if model.read is None:
        return []
    return changes_of(AskedModel(task, params, max_length, model.config, model.read, model.ref.uri))


def _answers_version(
    task: str, params: Mapping[str, Any], max_length: int | None, model: ModelInfo
) -> int:
    if model.read is None and task_spec(task).engine is not None:
        return LATEST  # a worker that has the files finds no later one
    return version_of(answers_changed(task, params, max_length, model))


def options_of(settings: Settings) -> Options:
    return Options(
        queue=settings.queue,
        priority=settings.priority,
        batch_tokens=settings.batch_tokens,
        error_threshold=settings.error_threshold,
        max_attempts=settings.max_attempts,
        batch_timeout_s=settings.batch_timeout_s,
        trust_remote_code=settings.trust_remote_code,
        allow_pickle=settings.allow_pickle,
        deadline_s=deadline_of(settings.deadline, settings.completion_window, datetime.now()),
    )
