"""A small T5 that learns to write from pairs of text and answer, in about a minute on one core.

For the demo and for measurements, where there is no trained model; `headrace train` trains none
that writes.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Pair = tuple[str, str]
PAD, END = "<pad>", "</s>"
VOCABULARY = 800
"""Tokens at most. Chosen: whole words of a corpus of a few hundred words."""
SAMPLE = 4_000
"""Pairs that the vocabulary is made from."""
WIDTH, LAYERS, HEADS = 64, 2, 4
BATCH, STEPS = 32, 1_000
PEAK = 3e-3
"""Of the learning rate. Measured: 500 steps leave the lists of things unlearned."""
MOST_NEW_TOKENS = 120
NOT_COUNTED = -100
"""Label of padding, as transformers has it."""


def train_writer(
    pairs: Sequence[Pair],
    folder: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """The folder with a model and its tokenizer, which appears whole or not at all.

    A folder that is there is replaced. Equal for the same pairs, steps and seed on one machine.
    """
    import torch

    torch.set_num_threads(1)  # measured: such small steps are no faster with two
    torch.manual_seed(seed)
    tokenizer = _tokenizer(pairs)
    model = _model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, steps, pct_start=0.1)
    model.train()
    for step, batch in zip(range(1, steps + 1), _batches(tokenizer, pairs, seed), strict=False):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            say(f"step {step} of {steps}, loss {loss.item():.4f}")
    return _save(model.eval(), tokenizer, folder)


def _tokenizer(pairs: Sequence[Pair]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    rust.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    rust.train_from_iterator((text for pair in pairs[:SAMPLE] for text in pair), trainer)
    rust.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token=PAD, eos_token=END, model_max_length=512
    )


def _model(tokenizer: Any) -> Any:
    from transformers import AutoModelForSeq2SeqLM, GenerationConfig, T5Config

    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=2 * WIDTH,
        num_layers=LAYERS, num_heads=HEADS, dropout_rate=0.0, tie_word_embeddings=False,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_config(config)
    model.generation_config = GenerationConfig(
        max_new_tokens=MOST_NEW_TOKENS, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0
    )
    return model


def _batches(tokenizer: Any, pairs: Sequence[Pair], seed: int) -> Iterator[dict[str, Any]]:
    """Batches of pairs with answers of about one length, in a random order, without an end."""
    import torch

    texts, answers = (
        tokenizer([pair[side] for pair in pairs], verbose=False)["input_ids"] for side in (0, 1)
    )
    rng = random.Random(seed)
    while True:
        order = sorted(range(len(pairs)), key=lambda at: (len(answers[at]), rng.random()))
        starts = list(range(0, len(order), BATCH))
        rng.shuffle(starts)
        for start in starts:
            rows = order[start : start + BATCH]
            ids = torch.tensor(_filled([texts[at] for at in rows], 0))
            labels = torch.tensor(_filled([answers[at] for at in rows], NOT_COUNTED))
            yield {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def _filled(rows: list[list[int]], value: int) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [value] * (longest - len(row)) for row in rows]


def _save(model: Any, tokenizer: Any, folder: Path) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)
    return folder


def pairs_in(corpus: Path, text: str, answer: str) -> list[Pair]:
    """The pairs of a Parquet file, from its columns of these names."""
    import pyarrow.parquet as pq

    # not `read_table`: threads of pyarrow 26 can end a process that exits soon after (SIGABRT)
    rows = pq.ParquetFile(corpus).read([text, answer], use_threads=False).to_pylist()
    return [(row[text], row[answer]) for row in rows]
