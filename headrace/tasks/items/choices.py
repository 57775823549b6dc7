"""The task `choice`: a language model's likeliest of given answers, and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headrace.tasks.candidate_labels import labels_of
from headrace.tasks.generation.settings import reads_then_writes
from headrace.tasks.generation.specs import CHAT, CHOICES, ON_LONG
from headrace.tasks.generation.specs import settle as settle_prompt
from headrace.tasks.sentence_files import check_adapter
from headrace.tasks.spec import Param, TaskSpec
from schemas.errors import ConfigError, ModelError
from schemas.records.engine import PACKED


def settle(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters as the record holds them: choices as a JSON array, a template's content.

    Raises:
        ConfigError: no choices, fewer than two, or some that cannot be used; options of the prompt
            that contradict one another.
    """
    found = dict(settle_prompt(params))
    if found.get("choices") is None:
        raise ConfigError("choice needs --choices (a,b,c, or a file with one a line)")
    if len(labels_of(found["choices"])) < 2:
        raise ConfigError("--choices: there is one choice, and a choice needs two")
    return found


def check_files(read: Callable[[str], Any], params: Mapping[str, Any], where: str) -> None:
    """Check that the folder holds a model that continues a text.

    Raises:
        ModelError: it does not, or holds an adapter alone.
    """
    check_adapter(read, where)
    config = read("config.json") or {}
    names = [str(name) for name in config.get("architectures") or []]
    continues = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)
    if reads_then_writes(config) or (names and not continues):
        raise ModelError(
            f"model {where} has no head for choice: it is {', '.join(names) or 'an encoder-decoder'}"
            ", and choice needs a language model that continues a text (ForCausalLM)"
        )


CHOICE = TaskSpec(
    name="choice",
    columns=("predicted_label", "score", "scores", "logprob"),
    params=(
        CHOICES,
        Param(
            "length_normalize", bool, "compare the mean of a choice's tokens, not their sum", True
        ),
        ON_LONG,
        *CHAT,
    ),
    check_files=check_files,
    settle=settle,
    engine=PACKED,
    label_column="predicted_label",
    score_column="score",
)
