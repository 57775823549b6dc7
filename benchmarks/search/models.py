"""Models whose speed counts here, not their answers: a given body, a head of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SEED = 7


def with_head(model: Path, folder: Path, head: str, limit: int, **config: Any) -> Path:
    """The model with another head (`SequenceClassification`, …) and its tokenizer, in the folder."""
    import torch
    import transformers

    torch.manual_seed(SEED)
    auto = getattr(transformers, f"AutoModelFor{head}")
    auto.from_pretrained(model, ignore_mismatched_sizes=True, **config).save_pretrained(folder)
    _tokenizer(model, limit).save_pretrained(folder)
    return folder


def language_model(model: Path, folder: Path, limit: int) -> Path:
    """A Llama of MiniLM's size with random weights, and the model's tokenizer as a decoder's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    tokenizer = _tokenizer(model, limit)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
        num_attention_heads=12, pad_token_id=tokenizer.pad_token_id, max_position_embeddings=limit,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(model: Path, limit: int) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, model_max_length=limit)
