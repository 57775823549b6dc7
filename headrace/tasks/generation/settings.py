"""Which settings hold while a model generates, and where each is stated. Pure, for both sides.

an option of the job
  → task_specific_params in config.json     (which transformers 5 does not read any more)
  → generation_config.json, or where there is none, config.json
  → the defaults of transformers, but for lengths: 20 tokens are never assumed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.tasks.generation.languages import (
    TRANSLATION,
    Pair,
    check_languages,
    is_by_row,
    pairs_stated,
    prefixes_of,
)
from headrace.tasks.generation.row_settings import ASSUMED_LENGTH, has_own
from headrace.tasks.generation.structure import asks_for_form, choices_in, grammar_of
from schemas.errors import ConfigError, ModelError

ReadJson = Callable[[str], Any]
"""A JSON file of the model's folder by name; None where there is none."""

LENGTHS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
CHOICES = (
    "do_sample", "num_beams", "early_stopping", "length_penalty",
    "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "renormalize_logits",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens",
)  # fmt: skip
TOKENS = (
    "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id",
    "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip
USED = frozenset({*LENGTHS, *CHOICES, *TOKENS})
"""Names in a model's files that decide what is generated, and are done as they say."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,), "diversity_penalty": (0, 0.0), "penalty_alpha": (0, 0.0),
    "guidance_scale": (1, 1.0), "dola_layers": (), "constraints": (), "force_words_ids": (),
    "watermarking_config": (), "token_healing": (False,), "max_time": (), "stop_strings": (),
    "num_return_sequences": (1,), "low_memory": (False,), "prompt_lookup_num_tokens": (),
    "assistant_early_exit": (), "use_mtp": (False,),
}  # fmt: skip
"""Names that would change the text and are not done: only None and these values are accepted."""

AGAINST_FORMS: Mapping[str, tuple[Any, ...]] = {
    "min_new_tokens": (0,), "min_length": (0,), "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,), "bad_words_ids": ([],), "sequence_bias": ([], {}),
    "suppress_tokens": ([],), "begin_suppress_tokens": ([],), "remove_invalid_values": (False,),
    "exponential_decay_length_penalty": (),
}  # fmt: skip
"""Names that forbid tokens whatever came before, or change the score of a forbidden one: with an answer
of a given form, only None and these values are accepted."""

OPTIONS = ("max_new_tokens", "min_new_tokens", "num_beams", "temperature", "top_p", "top_k")
"""Options of a job that set the same name."""
OPTION_FOR = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Settings that such an option takes the place of, under another name."""
MOST_SAMPLES = 128
"""Chosen: OpenAI's limit of `n`."""
SAMPLING = ("temperature", "top_p", "top_k")


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What holds, by transformers' names; a name that is absent has transformers' default."""

    values: Mapping[str, Any]
    said_by: Mapping[str, str]
    """Where each value is stated, as shown to people."""
    is_encoder_decoder: bool
    prefix: str = ""
    """Text before each text of the corpus."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer and are not part of it."""
    grammar: str = ""
    """The form of each answer, as llguidance reads it; empty: any text."""
    choices: tuple[str, ...] = ()
    """The only answers, if the grammar is of those."""
    samples: int = 1
    """Answers to each row."""
    prefixes: Mapping[Pair, str] = field(default_factory=dict)
    """Text before a text by its languages, if rows have languages of their own; empty if they have
    none, or if the tokenizer takes them."""

    def new_tokens(self, prompt_tokens: int) -> int:
        """Tokens that may be generated after a prompt of so many; below 1: none fits."""
        if "max_new_tokens" in self.values:
            return int(self.values["max_new_tokens"])
        # max_length counts what the decoder is given: its start token, or the prompt
        given = 1 if self.is_encoder_decoder else prompt_tokens
        return int(self.values["max_length"]) - given

    @property
    def states_length(self) -> bool:
        """Whether the length of an answer is stated; if not, each row says it."""
        return not self.values.keys().isdisjoint(("max_new_tokens", "max_length"))

    @property
    def most_new_tokens(self) -> int:
        """Tokens that may be generated after the shortest prompt, as far as the job says it."""
        return self.new_tokens(1) if self.states_length else ASSUMED_LENGTH

    @property
    def beams(self) -> int:
        """Sequences that a row has at once."""
        return int(self.values.get("num_beams") or 1)

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return frozenset(token_ids(self.values.get("eos_token_id")))


def settings_of(
    task: str, read: ReadJson, params: Mapping[str, Any], where: str
) -> GenerationSettings:
    """The settings of a job with these parameters, on the model that `read` reads.

    Raises:
        ConfigError: options that contradict one another, or no length stated anywhere.
        ModelError: the model's files ask for what headrace does not do, or it has no head for the
            task.
    """
    config = read("config.json") or {}
    is_encoder_decoder = reads_then_writes(config)
    _check_kind(task, config, is_encoder_decoder, where)
    check_languages(task, config, params, where)
    prefixes = prefixes_of(config, read, params, where)
    stated = _from_files(read, config, where)
    key, of_task = _task_params(task, config, params)
    stated |= {
        name: (value, f"task_specific_params.{key} in config.json")
        for name, value in of_task.items()
        if name in USED and value is not None
    }
    stated = _with_options(stated, params)
    has_length = "max_new_tokens" in stated or "max_length" in stated
    if not has_length and not has_own(params):
        raise ConfigError(
            f"model {where} states no length of an answer, neither in generation_config.json nor "
            "in config.json: give the most tokens that may be generated with --max-new-tokens"
        )
    values = {name: value for name, (value, _) in stated.items()}
    _check(values, where, has_length)
    if asks_for_form(params):
        _check_form(values, stated, where)
        values.pop("forced_eos_token_id", None)  # the grammar says where an answer ends
    samples = samples_of(params)
    if samples > 1 and not values.get("do_sample") and not has_own(params):
        raise ConfigError(
            f"--num-samples {samples}: without sampling all would be equal; give --temperature, "
            "--top-p or --top-k"
        )
    return GenerationSettings(
        values,
        {name: by for name, (_, by) in stated.items() if name in values},
        is_encoder_decoder,
        _prefix(of_task, prefixes, params),
        stops_of(params.get("stop")),
        grammar_of(params),
        choices_in(params),
        samples,
        prefixes if is_by_row(params) else {},
    )


def _prefix(
    of_task: Mapping[str, Any], prefixes: Mapping[Pair, str], params: Mapping[str, Any]
) -> str:
    """The text before each text that is the same for all rows."""
    given: str | None = params.get("prefix")
    if given is not None or is_by_row(params):
        return given or ""
    code = prefixes.get(Pair(None, params.get("tgt_lang")))  # of a model with several targets
    return str(of_task.get("prefix") or "") if code is None else code


def samples_of(params: Mapping[str, Any]) -> int:
    """How many answers each row has; with more than one, the columns are lists.

    Raises:
        ConfigError: there cannot be so many, or answers have a given form besides.
    """
    samples = int(params.get("num_samples") or 1)
    if not 1 <= samples <= MOST_SAMPLES or params.get("num_samples") == 0:
        raise ConfigError(f"--num-samples is from 1 to {MOST_SAMPLES}")
    if samples > 1 and asks_for_form(params):
        raise ConfigError("--num-samples is not for --schema and --choices: leave one of them out")
    return samples


def token_ids(value: Any) -> list[int]:
    """The ids in a setting that names none, one or several."""
    if value is None:
        return []
    return [int(it) for it in value] if isinstance(value, list | tuple) else [int(value)]


def reads_then_writes(config: Mapping[str, Any]) -> bool:
    """Whether the model has an encoder for the text and a decoder for the answer."""
    if "is_encoder_decoder" in config:
        return bool(config["is_encoder_decoder"])
    names = [str(name) for name in config.get("architectures") or []]
    return any(name.endswith(("ForConditionalGeneration", "MTModel")) for name in names)


def stops_of(text: str | None) -> tuple[str, ...]:
    """The stop texts in an option: a JSON array of texts, or one text.

    Raises:
        ConfigError: one of them is empty or no text.
    """
    if text is None:
        return ()
    found: Any = [text]
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = [text]
    if not all(isinstance(it, str) and it for it in found):
        raise ConfigError(f"--stop {text!r}: give one text, or a JSON array of texts")
    return tuple(found)


def _from_files(
    read: ReadJson, config: Mapping[str, Any], where: str
) -> dict[str, tuple[Any, str]]:
    """What the files state, and which file does."""
    generation = read("generation_config.json")
    of_config = _known({**_inner(config), **config})
    if isinstance(generation, Mapping):
        _refuse(generation, "generation_config.json", where)
        found = {n: (v, "generation_config.json") for n, v in _known(generation).items()}
        tokens = {n: (v, "config.json") for n, v in of_config.items() if n in TOKENS}
        return tokens | found
    _refuse(config, "config.json", where)
    return {name: (value, "config.json") for name, value in of_config.items()}


def _inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the part that writes, of a model of several."""
    for name in ("decoder", "generator", "text_config"):
        if isinstance(config.get(name), Mapping):
            return dict(config[name])
    return {}


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in USED if settings.get(name) is not None}


def _refuse(settings: Mapping[str, Any], file: str, where: str) -> None:
    for name, neutral in NEUTRAL.items():
        value = settings.get(name)
        if value is not None and value not in neutral:
            raise ModelError(
                f"model {where}: {file} asks for {name} = {value!r}, which headrace does not do"
            )


def _task_params(
    task: str, config: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """What config.json states for this task, and its name there."""
    if task == TRANSLATION:
        of_pairs = [it for _, it in pairs_stated(config, params)]
        if of_pairs:
            return _same_in_all(of_pairs, params)
    known = config.get("task_specific_params")
    if isinstance(known, Mapping) and isinstance(known.get(task), Mapping):
        return task, known[task]
    return "", {}


def _same_in_all(
    stated: Sequence[tuple[str, Mapping[str, Any]]], params: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """What config.json states for all of these pairs of languages; a job has one of each setting.

    Raises:
        ConfigError: they differ in a setting that no option gives.
    """
    first, settings = stated[0]
    for name, other in stated[1:]:
        for key in sorted(USED & {*settings, *other}):
            if settings.get(key) == other.get(key):
                continue
            option = OPTION_FOR.get(key, key)
            if params.get(option) is None:
                give = f"give --{option.replace('_', '-')}, or " if option in OPTIONS else ""
                raise ConfigError(
                    f"{first} and {name} in config.json differ in {key}, and a job has one of it: "
                    f"{give}submit a job for each pair of languages"
                )
    return first, settings


def _with_options(
    stated: dict[str, tuple[Any, str]], params: Mapping[str, Any]
) -> dict[str, tuple[Any, str]]:
    found = dict(stated)
    for name in OPTIONS:
        if params.get(name) is not None:
            found[name] = (params[name], f"--{name.replace('_', '-')}")
    if "max_new_tokens" in found:
        found.pop("max_length", None)
    if "min_new_tokens" in found:
        found.pop("min_length", None)
    if params.get("temperature") == 0:
        found.pop("temperature")
        found["do_sample"] = (False, "--temperature")
    elif any(params.get(name) is not None for name in SAMPLING):
        found["do_sample"] = (True, "an option of sampling")
    elif params.get("num_beams", 1) not in (None, 1):
        found["do_sample"] = (False, "--num-beams")
    if not found.get("do_sample", (False, ""))[0]:
        for name in (*SAMPLING, "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"):
            found.pop(name, None)
    return found


def _check(values: Mapping[str, Any], where: str, has_length: bool) -> None:
    most = values.get("max_new_tokens", values.get("max_length")) if has_length else ASSUMED_LENGTH
    least = values.get("min_new_tokens", values.get("min_length")) or 0
    if not isinstance(most, int) or most < 1:
        raise ConfigError(f"--max-new-tokens {most}: at least one token is generated")
    if least > most:
        raise ConfigError(
            f"at least {least} tokens and at most {most} cannot both hold; model {where} states "
            "one of them: give --min-new-tokens and --max-new-tokens"
        )
    if values.get("do_sample") and (values.get("num_beams") or 1) > 1:
        raise ConfigError(
            "beams and sampling cannot both hold: give --num-beams 1, or --temperature 0"
        )
    if values.get("temperature", 1.0) < 0 or not 0 < values.get("top_p", 1.0) <= 1:
        raise ConfigError("--temperature is at least 0, and --top-p above 0 and at most 1")
    if values.get("top_k", 1) < 0 or (values.get("num_beams") or 1) < 1:
        raise ConfigError("--top-k is at least 0, and --num-beams at least 1")


def _check_form(
    values: Mapping[str, Any], stated: Mapping[str, tuple[Any, str]], where: str
) -> None:
    """Check that no setting forbids what a grammar may need."""
    for name, neutral in AGAINST_FORMS.items():
        value = values.get(name)
        if value is not None and value not in neutral:
            option = f"; give --{name.replace('_', '-')} {neutral[0]}" if name in OPTIONS else ""
            raise ConfigError(
                f"model {where}: {stated[name][1]} asks for {name} = {value!r}, which could leave "
                f"no token that --schema or --choices allows{option}"
            )
    if (values.get("num_beams") or 1) > 1:
        raise ConfigError(
            "--schema and --choices hold for one beam: give --num-beams 1 "
            f"({stated['num_beams'][1]} asks for {values['num_beams']})"
        )
    if not token_ids(values.get("eos_token_id")):
        raise ModelError(f"model {where} states no token that ends an answer (eos_token_id)")


def _check_kind(task: str, config: Mapping[str, Any], writes: bool, where: str) -> None:
    if (task == "text-generation") == writes:
        named = ", ".join(map(str, config.get("architectures") or ["a model"]))
        other = "text2text-generation" if writes else "text-generation"
        raise ModelError(f"model {where} has no head for {task}: it is {named}; use --task {other}")
