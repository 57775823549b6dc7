"""A corpus and a model for any machine: our own reviews, a model with random weights."""

from __future__ import annotations

import math
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
               "intermediate_size": 1536},
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
              "intermediate_size": 4096},
    "decoder-tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "num_key_value_heads": 1, "intermediate_size": 64, "head_dim": 16},
    "decoder-1b": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
                   "num_key_value_heads": 8, "intermediate_size": 8192, "head_dim": 64},
}  # fmt: skip
"""What differs from BERT-base; `decoder-1b` has the shape of Llama 3.2 1B. Speed does not depend on
what the weights are."""
PART_FILES = 16  # chosen: several for each core of a small machine


@contextmanager
def small_job(
    corpus: Path | None, model: Path | None, rows: int, name: str
) -> Iterator[tuple[Path, Path, Path]]:
    """A folder for the block alone, in it `rows` texts, and the model or one made there."""
    with tempfile.TemporaryDirectory(prefix=f"headrace-{name}-") as made:
        folder = Path(made)
        if model is None:
            model = folder / "model"
            make_model(model, "minilm")
        texts = folder / "corpus.parquet"
        take_corpus(corpus, rows, texts)
        yield folder, texts, model


def take_corpus(
    paths: Path | Sequence[Path] | None, rows: int, to: Path, longest: int | None = None
) -> None:
    """`rows` distinct texts of Parquet files, or of our own reviews; every so manyth of them.

    Distinct, because headrace computes equal texts once, and that is another question. Where there
    are fewer distinct texts than rows they come again, with a number at the end: two tokens longer.
    `longest`: only texts of at most so many characters.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = [paths] if isinstance(paths, Path) else list(paths or ())
    texts = [text for path in found for text in _texts(path)] or _reviews(rows * 2)
    kept = (t for t in texts if t and t.strip() and len(t) <= (longest or len(t)))
    distinct = list(dict.fromkeys(kept))
    step = max(1, len(distinct) // rows)
    chosen = list(_again(distinct[::step], rows))
    pq.write_table(pa.table({"id": list(range(len(chosen))), "text": chosen}), to)


def _texts(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = pq.read_table(path, columns=["text"])["text"].to_pylist()
    return found


def _reviews(rows: int) -> list[str]:
    from producers.demo.corpus import rows as reviews

    return [review.text for review in reviews(1, rows)]


def _again(texts: Sequence[str], rows: int) -> Iterator[str]:
    for n in range(rows):
        turn, at = divmod(n, len(texts))
        yield f"{texts[at]} ({turn + 1})" if turn else texts[at]


def take_sample(corpus: Path, lengths: Sequence[int], rows: int, to: Path) -> None:
    """A small corpus in place of a large one: every so manyth row by length, in its order.

    For contestants whose time for a row does not depend on how many there are.
    """
    import pyarrow.parquet as pq

    by_length = sorted(range(len(lengths)), key=lambda i: lengths[i])
    at = [by_length[int((n + 0.5) * len(lengths) / rows)] for n in range(min(rows, len(lengths)))]
    pq.write_table(pq.read_table(corpus).take(sorted(at)), to)


def take_lengths(lengths: Iterable[int], to: Path) -> None:
    """Distinct rows of about so many tokens each, for a tokenizer that knows our reviews' words."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = re.findall("[a-z]+", " ".join(_reviews(500)).lower())  # a token each
    texts: dict[str, None] = {}
    for n, length in enumerate(lengths):
        width = max(1, length - 2)  # two are the tokenizer's own
        turn = 1 + n * 7 // len(words)  # another distance between words, once they come again
        while (text := _every(words, turn, n * 7, width)) in texts:
            width += 1
        texts[text] = None
    pq.write_table(pa.table({"id": list(range(len(texts))), "text": list(texts)}), to)


def _every(words: Sequence[str], step: int, start: int, count: int) -> str:
    return " ".join(words[(start + k * step) % len(words)] for k in range(count))


def mixed_lengths(rows: int) -> list[int]:
    """Skewed as documentation is: median 24 tokens, one row in twenty over 267, 1.8 % over 512.

    A lognormal through the first two, which were measured; the third follows within 0.1 %.
    """
    rng = random.Random(0)
    spread = math.log(267 / 24) / 1.645
    return [min(600, round(rng.lognormvariate(math.log(24), spread))) for _ in range(rows)]


def split(corpus: Path, folder: Path, files: int = PART_FILES) -> None:
    """The corpus as a folder of files of equal numbers of rows."""
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    table = pq.read_table(corpus)
    for n in range(files):
        low, high = (table.num_rows * k // files for k in (n, n + 1))
        if high > low:
            pq.write_table(table.slice(low, high - low), folder / f"part-{n:03}.parquet")


def make_model(folder: Path, size: str, device: str = "cpu", dtype: str = "float32") -> None:
    """A classifier of two labels with random weights, and a tokenizer of our reviews' words.

    Made on `device`: a billion random numbers take a CPU a minute.
    """
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForSequenceClassification,
    )

    words = save_tokenizer(folder)
    torch.manual_seed(0)
    kind: type[BertForSequenceClassification] | type[LlamaForSequenceClassification]
    if size.startswith("decoder"):
        kind = LlamaForSequenceClassification
        config = LlamaConfig(
            vocab_size=len(words), pad_token_id=words.pad_token_id, num_labels=2,
            max_position_embeddings=2048, **SIZES[size],
        )  # fmt: skip
    else:
        kind = BertForSequenceClassification
        config = BertConfig(vocab_size=len(words), **SIZES[size])
    with torch.device(device):
        model = kind._from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)


def save_tokenizer(folder: Path) -> Any:
    """A tokenizer of our reviews' words, which every model here has; the same at each call."""
    from producers.demo.corpus import rows as reviews
    from workers.training.rows.vocabulary import wordpiece_tokenizer

    words = wordpiece_tokenizer([review.text for review in reviews(2, 5_000)], 4_000, 512)
    words.save_pretrained(folder)
    return words
