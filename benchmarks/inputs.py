"""A corpus and a model for any machine: our own reviews, a BERT with random weights."""

from __future__ import annotations

from pathlib import Path

SIZES = {
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
               "intermediate_size": 1536},
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
              "intermediate_size": 4096},
}  # fmt: skip
"""What differs from BERT-base. Speed does not depend on what the weights are."""


def take_corpus(path: Path | None, rows: int, to: Path) -> None:
    """`rows` distinct texts of a Parquet file, or of our own reviews; every so manyth of them.

    Distinct, because headrace computes equal texts once, and that is another question.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from producers.demo.corpus import rows as reviews

    if path is None:
        texts = [review.text for review in reviews(1, rows * 2)]
    else:
        texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    distinct = list(dict.fromkeys(text for text in texts if text and text.strip()))
    kept = distinct[:: max(1, len(distinct) // rows)][:rows]
    pq.write_table(pa.table({"id": list(range(len(kept))), "text": kept}), to)


def make_model(folder: Path, size: str) -> None:
    """A classifier of two labels with random weights, and a tokenizer of our reviews' words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from producers.demo.corpus import rows as reviews
    from workers.demo_model import _tokenizer

    words = _tokenizer([review.text for review in reviews(2, 5_000)])
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), **SIZES[size])
    BertForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
