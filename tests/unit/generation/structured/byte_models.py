"""Tiny models whose tokens are bytes, so that they can write JSON: peaked logits, random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tests.unit.generation.peaked import CONFIGS, SPREAD

PAD, END = "<pad>", "</s>"
LONGER = ['{"', '":', '",', "mood", "stars", '"tags', "fals", "tru", "goo", '":["', ',"']
"""Tokens of several bytes, which text is never read as."""
SIZE = 258 + len(LONGER)
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 500},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "note": {"type": "string", "pattern": "^[a-z]{0,3}$"},
    },
    "required": ["mood", "stars", "tags", "note"],
    "additionalProperties": False,
}


@cache
def byte_model(family: str) -> Any:
    """The model, in eval mode, with an answer's end as likely as any token."""
    import torch
    import transformers

    name, settings = CONFIGS[family]
    own = {"vocab_size": SIZE, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 0}
    config = getattr(transformers, name)(
        **settings | own | {"decoder_start_token_id": 0} | _more(family)
    )
    auto = "Seq2SeqLM" if config.is_encoder_decoder else "CausalLM"
    torch.manual_seed(5)
    model = getattr(transformers, f"AutoModelFor{auto}").from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, SPREAD.get(family, 0.5))
    if family == "bart":  # as those that are published have it
        model.generation_config.forced_bos_token_id = 0
        model.generation_config.forced_eos_token_id = 1
    return model.eval()


def _more(family: str) -> dict[str, Any]:
    places = {"gpt2": "n_positions", "t5": "n_positions"}.get(family, "max_position_embeddings")
    return {places: 256}


def save_byte_model(folder: Path, family: str) -> Path:
    """The model with its tokenizer: a token for each byte, and two special ones."""
    byte_model(family).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer(without: str = "") -> Any:
    """The tokenizer; a byte of `without` has no token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [it for it in sorted(pre_tokenizers.ByteLevel.alphabet()) if it not in without]
    words = {word: at for at, word in enumerate([PAD, END, *letters, *LONGER])}
    rust = Tokenizer(models.BPE(words, [], unk_token=PAD))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token=PAD, eos_token=END, model_max_length=256
    )
