"""Translates generation settings to CTranslate2's options, and refuses those that differ. Pure.

Source: options of `translate_batch` and `generate_batch` of CTranslate2 4.8.5, each compared with
`generate` of transformers 5.23 row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.tasks.generation.settings import GenerationSettings, token_ids
from schemas.errors import ConfigError

PATIENT = 8.0
"""CTranslate2's `patience`: a search ends after this many finished texts per beam. Measured on a tiny T5 whose
`early_stopping` is false: CTranslate2's usual 1 gives another text than `generate` for a third of
the rows, 4 for 2 of 60, 8 for none."""

UNLIKE: Mapping[str, tuple[Any, ...]] = {
    "do_sample": (False,), "encoder_repetition_penalty": (1, 1.0), "repetition_penalty": (1, 1.0),
    "encoder_no_repeat_ngram_size": (0,), "sequence_bias": (), "begin_suppress_tokens": ([],),
    "exponential_decay_length_penalty": (), "renormalize_logits": (False,),
}  # fmt: skip
"""Settings that CTranslate2 lacks or does in another way: only None and these values are accepted.
Its penalty of repetition leaves out the prompt and the decoder's first token."""
ALONE = (
    "no_repeat_ngram_size", "min_new_tokens", "min_length", "suppress_tokens", "bad_words_ids"
)  # fmt: skip
"""Settings that hold for one beam, and not for several."""
ADVICE = "use --engine transformers"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How CTranslate2 searches for a job's texts."""

    options: Mapping[str, Any]
    """Keyword arguments that both kinds of model take."""
    ends: frozenset[int]
    """Tokens that end an answer."""
    prefix: tuple[int, ...] = ()
    """First tokens of each answer."""
    forced_end: int | None = None
    """The token that an answer of full length has at its end, in place of its last."""
    suppressed: Sequence[Sequence[int]] = field(default=())
    """Sequences of tokens that never appear."""


def decoding_of(settings: GenerationSettings, model: str) -> Decoding:
    """The options of CTranslate2 for these settings.

    Raises:
        ConfigError: a setting that it lacks, or with which its texts are not those of `generate`.
    """
    values = settings.values
    for name, neutral in UNLIKE.items():
        value = values.get(name)
        if value is not None and value not in neutral:
            by = settings.said_by.get(name, "the job")
            raise ConfigError(
                f"--engine ctranslate2 with {model}: {by} asks for {name} = {value!r}, which "
                f"CTranslate2 does not do as transformers does: {ADVICE}"
            )
    beams, forced_end = settings.beams, values.get("forced_eos_token_id")
    early = values.get("early_stopping") or False
    if beams > 1:
        _check_beams(settings, model, early is True, len(settings.ends), forced_end)
    elif values.get("no_repeat_ngram_size") and not settings.is_encoder_decoder:
        raise _refused(model, "no_repeat_ngram_size after a prompt")
    options = {
        "beam_size": beams,
        "patience": 1.0 if beams == 1 or early is True else PATIENT,
        "length_penalty": _or(values.get("length_penalty"), 1.0),
        "no_repeat_ngram_size": _or(values.get("no_repeat_ngram_size"), 0),
    }
    first = values.get("forced_bos_token_id") if settings.is_encoder_decoder else None
    return Decoding(
        options,
        settings.ends,
        () if first is None else (int(first),),
        None if forced_end is None else token_ids(forced_end)[0],
        [
            *([token] for token in values.get("suppress_tokens") or []),
            *(values.get("bad_words_ids") or []),
        ],
    )


def least_new_tokens(settings: GenerationSettings, prompt_tokens: int) -> int:
    """Smallest number of new tokens, after a prompt of this many tokens."""
    if settings.values.get("min_new_tokens"):
        return int(settings.values["min_new_tokens"])
    least = int(settings.values.get("min_length") or 0)
    return max(0, least - (1 if settings.is_encoder_decoder else prompt_tokens))


def _check_beams(
    settings: GenerationSettings, model: str, is_early: bool, ends: int, forced_end: Any
) -> None:
    """Refuse what was measured to give other texts with beams: 11 to 42 of 60 rows, 7 the last."""
    why = ""
    if settings.stop:
        why = "--stop"
    elif forced_end is not None:
        why = "forced_eos_token_id"
    elif is_early and ends > 1:
        why = f"early_stopping with {ends} end tokens"
    elif not is_early and not settings.is_encoder_decoder:
        why = "no early_stopping"
    for name in ALONE:
        why = name if settings.values.get(name) else why
    if why:
        raise _refused(model, f"{settings.beams} beams and {why}")


def _refused(model: str, why: str) -> ConfigError:
    return ConfigError(
        f"--engine ctranslate2 with {model}: {why} give other texts than transformers: {ADVICE}"
    )


def _or(value: Any, usual: Any) -> Any:
    return usual if value is None else value
