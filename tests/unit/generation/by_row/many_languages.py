"""Tiny models of many languages with their real tokenizers, which need no file to be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.generation.peaked import SPREAD

WORDS = [f"w{n}" for n in range(24)]
LAYERS = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "dropout": 0.0,
    "max_position_embeddings": 64, "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0,
    "decoder_start_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip


def save_nllb(folder: Path) -> Path:
    """M2M100's model with NLLB's tokenizer: the source language comes before a text."""
    from transformers import M2M100Config, NllbTokenizer

    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    for letter in ("▁", "w", *"0123456789"):
        vocabulary[letter] = len(vocabulary)
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[])
    tokenizer.model_max_length = 64
    return _save(folder, tokenizer, M2M100Config(vocab_size=len(tokenizer), **LAYERS))


def save_mbart(folder: Path) -> Path:
    """mBART's model with mBART-50's tokenizer, with what CTranslate2's converter asks for."""
    from transformers import MBart50Tokenizer, MBartConfig

    pieces = [(it, 0.0) for it in ("<unk>", "<s>", "</s>")]  # as SentencePiece has them
    tokenizer = MBart50Tokenizer(vocab=[*pieces, *((f"▁{word}", -1.0) for word in WORDS)])
    tokenizer.bos_token = "<s>"  # as the files of the model on the hub say
    tokenizer.model_max_length = 64
    config = MBartConfig(
        vocab_size=len(tokenizer), normalize_before=True, scale_embedding=True,
        forced_eos_token_id=None, tokenizer_class="MBart50Tokenizer", **LAYERS,
    )  # fmt: skip
    return _save(folder, tokenizer, config)


def add_to_config(folder: Path, **more: Any) -> Path:
    """The folder, with more in its config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return folder


def _save(folder: Path, tokenizer: Any, config: Any) -> Path:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    torch.manual_seed(3)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, SPREAD.get(config.model_type, 0.5))
        # most tokens are languages, of which a text shows nothing
        model.lm_head.weight[tokenizer.all_special_ids] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
