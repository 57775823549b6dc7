"""Tiny models with peaked logits, so that their answers are not ties, and of many lengths.

Their weights are random and large: each token depends on all before it, and a row shifted or a mask
missing changes what follows. `train` teaches one a task, for what needs sense.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PAD, END, START, FIRST = 0, 1, 2, 3
WORDS, COUNTS = 24, 6
VOCABULARY = [
    "<pad>", "</s>", "<s>", *(f"n{n}" for n in range(1, COUNTS + 1)),
    *(f"w{n}" for n in range(WORDS - 5)), "user", "system", "assistant", ":", ".",
]  # fmt: skip
TOKENS = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": START}
SMALL = {"vocab_size": len(VOCABULARY), "tie_word_embeddings": False, **TOKENS}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("BartConfig", SMALL | {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 64, "decoder_start_token_id": START, "dropout": 0.0,
        "forced_eos_token_id": None,
    }),
    "t5": ("T5Config", SMALL | {
        "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2,
        "decoder_start_token_id": PAD, "dropout_rate": 0.0,
    }),
    "llama": ("LlamaConfig", SMALL | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
    }),
    "gpt2": ("GPT2Config", SMALL | {
        "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }),
    "mistral": ("MistralConfig", SMALL | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
        "sliding_window": 6,
    }),
}  # fmt: skip
SPREAD = {"t5": 1.5}
"""Of the weights, where it is not 0.5. Chosen: answers of many lengths, and no ties."""


def examples(rows: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Prompts and answers, as token ids."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        count = int(random.integers(1, COUNTS + 1))
        words = random.integers(FIRST + COUNTS, len(VOCABULARY), int(random.integers(count, 10)))
        prompt = [FIRST + count - 1, *words.tolist()]
        found.append((prompt, [*words[:count].tolist(), END]))
    return found


@cache
def peaked(family: str) -> Any:
    """The model, in eval mode; made once for all tests of a process."""
    import torch
    import transformers

    name, settings = CONFIGS[family]
    torch.manual_seed(3)
    config = getattr(transformers, name)(**settings)
    auto = "Seq2SeqLM" if config.is_encoder_decoder else "CausalLM"
    model = getattr(transformers, f"AutoModelFor{auto}").from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, SPREAD.get(family, 0.5))
    return model.eval()


def train(model: Any, steps: int) -> Any:
    """The model, taught the task of `examples`; some 0.05 s a step."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        batch = _batch(examples(48, step), model.config.is_encoder_decoder)
        loss = model.train()(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def _batch(rows: list[tuple[list[int], list[int]]], is_encoder_decoder: bool) -> dict[str, Any]:
    import torch

    if is_encoder_decoder:
        ids, mask = _filled([prompt for prompt, _ in rows], PAD)
        labels, _ = _filled([answer for _, answer in rows], -100)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
    ids, mask = _filled([prompt + answer for prompt, answer in rows], PAD)
    labels, _ = _filled([[-100] * len(prompt) + answer for prompt, answer in rows], -100)
    assert isinstance(ids, torch.Tensor)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _filled(rows: list[list[int]], value: int) -> tuple[Any, Any]:
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([row + [value] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def save_peaked(folder: Path, family: str, **config: Any) -> Path:
    """The model with a tokenizer of whole words, and more of its config.json."""
    import json

    peaked(family).save_pretrained(folder)
    save_tokenizer(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<pad>")
    )
    rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="<pad>", eos_token="</s>", bos_token="<s>",
        unk_token="<pad>", model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip


def words_of(ids: list[int]) -> str:
    """Token ids as the text that the tokenizer reads."""
    return " ".join(VOCABULARY[i] for i in ids)
