"""A tokenizer for each family: of its own class where one can be made here, else a stand-in.

A class of the tokenizers library is trained on our own texts with its own normalizer, pieces and
special tokens. A class in Python is given the files that it reads. Where neither works, a byte-level
BPE with a beginning and an end takes its place, and the table says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.families.texts import WORDS, corpus
from benchmarks.families.tiny_configs import VOCABULARY

LETTERS = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!'()-"]


def tokenizer_of(model_type: str, folder: Path) -> tuple[Any, bool]:
    """The tokenizer, and whether it is of the family's own class. `folder` takes working files."""
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    name = TOKENIZER_MAPPING_NAMES.get(model_type)
    if name in (None, "TokenizersBackend"):
        return stand_in(), False
    try:
        kind = getattr(transformers, name)
        made = (
            _trained(kind)
            if hasattr(kind, "_from_tokenizers") or _is_fast(kind)
            else _python(kind, folder)
        )
        return _checked(made), True
    except Exception:
        return stand_in(), False


def _is_fast(kind: Any) -> bool:
    from transformers import TokenizersBackend

    return issubclass(kind, TokenizersBackend)


def _checked(tokenizer: Any) -> Any:
    """The tokenizer, when most of what it makes of a plain sentence is known to it."""
    ids = tokenizer("the weather is fine today").input_ids
    unknown = tokenizer.unk_token_id
    if not ids or (unknown is not None and ids.count(unknown) * 2 > len(ids)):
        raise ValueError("mostly unknown tokens")
    return tokenizer


def _trained(kind: Any) -> Any:
    empty = kind()
    if kind.__name__ == "EsmcTokenizer":  # its vocabulary, of amino acids, is in its code
        return empty
    made = empty.train_new_from_iterator([corpus()], VOCABULARY - 100, show_progress=False)
    made.model_max_length = 10**30
    return made


@cache
def stand_in() -> Any:
    """Byte-level BPE with `<s>` before and `</s>` behind a row."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    rust.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 100,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=rust,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


# -- tokenizers written in Python: the files that they read


def _python(kind: Any, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    made = FILES.get(kind.__name__, _nothing)(folder)
    return kind(**made)


def _nothing(folder: Path) -> dict[str, str]:
    return {}


def _vocab_txt(*special: str, pieces: list[str]) -> Callable[[Path], dict[str, str]]:
    def write(folder: Path) -> dict[str, str]:
        path = folder / "vocab.txt"
        path.write_text("\n".join([*special, *pieces]))
        return {"vocab_file": str(path)}

    return write


def _word_bpe(*special: str, end: str = "</w>") -> Callable[[Path], dict[str, str]]:
    """Letters, with and without the mark that ends a word, and a few pairs of them."""

    def write(folder: Path) -> dict[str, str]:
        merges = [("t", "h"), ("th", f"e{end}"), ("i", f"s{end}"), ("o", "n"), ("a", "n")]
        pieces = [
            *special,
            *LETTERS,
            *(f"{c}{end}" for c in LETTERS),
            *("".join(m) for m in merges),
        ]
        vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text(
            "\n".join(
                ["#version: 0.2", *(f"{a} {b} {9 - i}" for i, (a, b) in enumerate(merges)), ""]
            )
        )
        return {
            "vocab_file": str(folder / "vocab.json"),
            "merges_file": str(folder / "merges.txt"),
        }

    return write


def _sentencepiece(folder: Path) -> dict[str, str]:
    import sentencepiece

    (folder / "corpus.txt").write_text("\n".join(t for t in corpus() if t.strip()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "spiece"),
        vocab_size=150,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return {"vocab_file": str(folder / "spiece.model")}


def _ctrl(folder: Path) -> dict[str, str]:
    """`@@` stands behind a piece that does not end its word."""
    made = _word_bpe("<unk>")(folder)
    pieces = ["<unk>", *LETTERS, *(f"{c}@@" for c in LETTERS), "the", "is", "th@@", "on@@", "an@@"]
    Path(made["vocab_file"]).write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    return made


def _rocbert(folder: Path) -> dict[str, str]:
    pieces = [*BERT, *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    for name in ("word_shape", "word_pronunciation"):
        ids = {piece: i % 90 for i, piece in enumerate(dict.fromkeys(pieces))}
        (folder / f"{name}.json").write_text(json.dumps(ids))
    return {
        "vocab_file": str(folder / "vocab.txt"),
        "word_shape_file": str(folder / "word_shape.json"),
        "word_pronunciation_file": str(folder / "word_pronunciation.json"),
    }


BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EMPTY]")
WORD_PIECES = list(dict.fromkeys([*WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]))
XLM = ("<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10)))

FILES: dict[str, Callable[[Path], dict[str, str]]] = {
    "TapasTokenizer": _vocab_txt(*BERT, pieces=WORD_PIECES),
    "ProphetNetTokenizer": _vocab_txt(*BERT, pieces=WORD_PIECES),
    "RoCBertTokenizer": _rocbert,
    "EsmTokenizer": _vocab_txt(
        "<cls>",
        "<pad>",
        "<eos>",
        "<unk>",
        pieces=[*"LAGVSERTIDPKQNFYMHWCXBUZOthewairsfndoy.-", "<mask>"],
    ),
    "BioGptTokenizer": _word_bpe("<s>", "<pad>", "</s>", "<unk>"),
    "CTRLTokenizer": _ctrl,
    "FlaubertTokenizer": _word_bpe(*XLM),
    "XLMTokenizer": _word_bpe(*XLM),
    "PLBartTokenizer": _sentencepiece,
    "BertGenerationTokenizer": _sentencepiece,
    "GPTSw3Tokenizer": _sentencepiece,
    "BarthezTokenizer": _sentencepiece,
    "SiglipTokenizer": _sentencepiece,
    "XLMProphetNetTokenizer": _sentencepiece,
    "Speech2TextTokenizer": _sentencepiece,
}
