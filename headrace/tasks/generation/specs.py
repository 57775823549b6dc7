"""Tasks whose answer is text: what each is, and their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.tasks.generation.languages import COLUMNS as LANGUAGE_COLUMNS
from headrace.tasks.generation.languages import TRANSLATION, check_given_once
from headrace.tasks.generation.reasoning import check_reasoning, reasoning_columns
from headrace.tasks.generation.settings import samples_of, settings_of, stops_of
from headrace.tasks.generation.structure import form_columns, settled_form
from headrace.tasks.spec import Param, TaskSpec
from schemas.errors import ConfigError
from schemas.records.engine import TRANSFORMERS

COLUMNS = ("generated_text", "finish_reason", "n_generated", "logprob")

ON_LONG = Param(
    "on_long",
    str,
    "a text that is too long for the model: error, truncate-left or truncate-right",
    "error",
    choices=("error", "truncate-left", "truncate-right"),
)
GENERATING = (
    Param("max_new_tokens", int, "most tokens of an answer; default: as the model says"),
    Param("min_new_tokens", int, "fewest tokens of an answer; default: as the model says"),
    Param("num_beams", int, "beams of the search; default: as the model says"),
    Param("temperature", float, "of sampling; 0: the likeliest token; default: as the model says"),
    Param("top_p", float, "share of the likeliest tokens to sample from"),
    Param("top_k", int, "number of the likeliest tokens to sample from"),
    Param("seed", int, "seed of sampling", 0),
    Param("num_samples", int, "samples of each row; with more than one, columns are lists", 1),
    Param("stop", str, "text that ends an answer; several as a JSON array"),
    ON_LONG,
    Param(
        "json_schema",
        str,
        "file with a JSON schema that each answer follows; its properties become columns",
        option="--schema",
    ),
)
CHOICES = Param("choices", str, "answers to choose from: a,b,c, or a file with one a line")
PREFIX = Param("prefix", str, "text before each text; default: as the model says")
LANGUAGES = (
    Param("src_lang", str, "language of the texts, as the model calls it"),
    Param("tgt_lang", str, "language of the answers, as the model calls it"),
    Param("src_lang_column", str, "column with the language of each row's text"),
    Param("tgt_lang_column", str, "column with the language of each row's answer"),
)
CHAT = (
    Param("prompt", str, r"prompt made of columns, e.g. 'Sum up: {title}\n{body}'"),
    Param("messages_column", str, "column with the messages of a chat, as JSON"),
    Param("system_prompt", str, "system message before each prompt"),
    Param("chat", bool, "apply the model's chat template; default: where it has one"),
    Param("split_reasoning", bool, "put what is between <think> and </think> into a column"),
    Param("endpoint", str, "address of an OpenAI-compatible API, for --engine endpoint"),
    Param("chat_template", str, "file with a chat template; default: the model's own"),
)

ROW_SETTINGS = Param(
    "row_settings_column", str, "column with settings of single rows, as JSON: max_new_tokens, seed"
)


def settle(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters as the record holds them: a template's content in place of its file.

    `prompt` is not among them: the record has it as the template of the texts.

    Raises:
        ConfigError: options that contradict one another, or a file that cannot be read.
    """
    stops_of(params.get("stop"))
    samples_of(params)
    check_reasoning(params)
    check_given_once(params)
    found = {name: value for name, value in params.items() if name != "prompt"}
    found |= settled_form(found, COLUMNS)
    template = found.get("chat_template")
    if template is not None:
        found["chat_template"] = _content(template)
    if found.get("chat") is False:
        for name in ("messages_column", "system_prompt", "chat_template"):
            if found.get(name) is not None:
                option = name.replace("_", "-")
                raise ConfigError(f"--no-chat and --{option} contradict one another")
    if params.get("prompt") and found.get("messages_column"):
        raise ConfigError("--prompt and --messages-column contradict one another")
    return found


def _content(template: str) -> str:
    """What the file holds; a template itself, which has braces, as it is."""
    if "{" in template:
        return template
    try:
        return Path(template).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--chat-template {template} cannot be read: {error}") from error


def _checks(task: str) -> Callable[[Callable[[str], Any], Mapping[str, Any], str], object]:
    def check(read: Callable[[str], Any], params: Mapping[str, Any], where: str) -> None:
        settings = settings_of(task, read, params, where)
        if settings.grammar:
            from headrace.tasks.generation.grammar import check_grammar  # with numpy

            check_grammar(settings, read("tokenizer.json"), where)

    return check


def _more_columns(params: Mapping[str, Any]) -> tuple[str, ...]:
    return (*reasoning_columns(params), *form_columns(params))


def _spec(name: str, *more: Param, second: tuple[str, ...] = ()) -> TaskSpec:
    return TaskSpec(
        name=name,
        columns=COLUMNS,
        more_columns=_more_columns,
        params=(*GENERATING, *more),
        check_files=_checks(name),
        engine=TRANSFORMERS,
        generates=True,
        settle=settle,
        pair_options=second,
        label_column="finish_reason",
        score_column=None,
    )


GENERATION_SPECS = (
    _spec("text-generation", CHOICES, *CHAT, ROW_SETTINGS, second=(ROW_SETTINGS.name,)),
    _spec("text2text-generation", CHOICES, PREFIX),
    _spec("summarization", PREFIX),
    _spec(TRANSLATION, PREFIX, *LANGUAGES, second=tuple(LANGUAGE_COLUMNS.values())),
)
