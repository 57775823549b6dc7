"""How many tokens a row may have, from a model's files, for producers and workers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
    "max_source_positions",
    "max_encoder_position_embeddings",
)
"""Names of the limit in configurations; mpt says `max_seq_len`, bloom `seq_length`, T5
`n_positions`."""
TEXT_PARTS = ("text_config", "text_encoder", "encoder", "encoder_config", "thinker_config")
"""Where the configuration of a multimodal model keeps that of its text model."""
# transformers writes int(1e30) for "none stated"
UNSTATED = 10**9


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """A limit in tokens, special tokens included."""

    tokens: int
    said_by: str
    """The file and the name in it, as shown to people."""


def stated_limit(
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    sentence_transformers: Mapping[str, Any],
    positions: int | None = None,
) -> LengthLimit | None:
    """The smallest limit that a model's files state; None if no file states one.

    `config` is config.json, `tokenizer` is tokenizer_config.json, `sentence_transformers` is
    sentence_bert_config.json; a missing file is empty. `positions` is the number of rows of the
    model's learned position table, which may be fewer than the configuration says (RoBERTa).
    """
    found = list(_from_config(config))
    if positions is not None:
        found.append(LengthLimit(positions, "the model's position table"))
    for settings, name, file in (
        (tokenizer, "model_max_length", "tokenizer_config.json"),
        (sentence_transformers, "max_seq_length", "sentence_bert_config.json"),
    ):
        tokens = _whole(settings.get(name))
        if tokens is not None:
            found.append(LengthLimit(tokens, f"{name} in {file}"))
    return min(found, key=lambda limit: limit.tokens, default=None)


def _from_config(config: Mapping[str, Any]) -> Iterator[LengthLimit]:
    for name in LIMITS:
        tokens = _whole(config.get(name))
        if tokens is not None:
            yield LengthLimit(tokens, f"{name} in config.json")
            return
    for part in TEXT_PARTS:
        inner = config.get(part)
        if isinstance(inner, Mapping):
            yield from _from_config(inner)


def _whole(value: Any) -> int | None:
    # some tokenizers write 512.0, and 1e30 as a float
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 < value < UNSTATED else None
