"""Tiny models with random weights, made on the spot: every family in a few dozen kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.tasks.contract import Task
from workers.batching.packing import pack

WORDS_TEXT = """
the a weather is fine today and not it was one two three four five six seven paris london new york
anna works at acme in berlin good bad film very long short text with words of all kinds hello world
re run ##ning ##ly ##s ##ed play un ##happ ##y 2024 ! ? . , : ; - ' ( ) # @ 😀 ש ל ו ם
m ##ic ##ro ##so ##ft
"""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
VOCABULARY = list(
    dict.fromkeys([*SPECIAL, *WORDS_TEXT.split(), *LETTERS, *(f"##{c}" for c in LETTERS)])
)
LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}

SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
ENCODER = SIZE | {"vocab_size": len(VOCABULARY), "max_position_embeddings": 512, "pad_token_id": 0}
DECODER = SIZE | {
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 512,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# random weights of the usual size give scores that hardly depend on the text
SPREAD = {"initializer_range": 0.6}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", ENCODER | SPREAD),
    # 514: two positions before the first; pad is 1 there, so that a wrong offset shows
    "roberta": (
        "RobertaConfig",
        ENCODER | SPREAD | {"max_position_embeddings": 514, "pad_token_id": 1},
    ),
    "xlm-roberta": (
        "XLMRobertaConfig",
        ENCODER | SPREAD | {"max_position_embeddings": 514, "pad_token_id": 1},
    ),
    "electra": ("ElectraConfig", ENCODER | SPREAD | {"embedding_size": 16}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": len(VOCABULARY)}
        | SPREAD,
    ),
    "modernbert": (
        "ModernBertConfig",
        # a window of 16 tokens in one layer of two, so that long rows meet it
        ENCODER
        | {"local_attention": 16, "global_attn_every_n_layers": 2, "initializer_range": 0.2},
    ),
    "modernbert-mean": (
        "ModernBertConfig",
        ENCODER | {"local_attention": 16, "classifier_pooling": "mean", "initializer_range": 0.2},
    ),
    "deberta-v2": (
        "DebertaV2Config",
        ENCODER
        | SPREAD
        | {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]},
    ),
    "mpnet": (
        "MPNetConfig",
        ENCODER | SPREAD | {"max_position_embeddings": 514, "pad_token_id": 1},
    ),
    "llama": ("LlamaConfig", DECODER | {"initializer_range": 0.2}),
    "qwen2": (
        "Qwen2Config",
        DECODER
        | {
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 1,
            "initializer_range": 0.2,
        },
    ),
    "mistral": ("MistralConfig", DECODER | {"sliding_window": 16, "initializer_range": 0.2}),
}

SHIFTED = ENCODER | SPREAD | {"max_position_embeddings": 514, "pad_token_id": 1}
LANGUAGE_MODEL = DECODER | {"initializer_range": 0.2}
GEMMA3 = LANGUAGE_MODEL | {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
MORE_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("AlbertConfig", ENCODER | SPREAD | {"embedding_size": 16}),
    "bart": (
        "BartConfig",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
        | {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
        | {"vocab_size": len(VOCABULARY), "init_std": 0.2, "max_position_embeddings": 512}
        | {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3},
    ),
    "data2vec-text": ("Data2VecTextConfig", SHIFTED | {"initializer_range": 0.2}),
    "ernie": ("ErnieConfig", ENCODER | SPREAD),
    "eurobert": ("EuroBertConfig", LANGUAGE_MODEL),
    "jina_embeddings_v3": ("JinaEmbeddingsV3Config", ENCODER | {"initializer_range": 0.2}),
    "nomic_bert": ("NomicBertConfig", ENCODER | {"initializer_range": 0.2}),
    "roberta-prelayernorm": ("RobertaPreLayerNormConfig", SHIFTED),
    "xlm-roberta-xl": ("XLMRobertaXLConfig", SHIFTED),
    "gemma": ("GemmaConfig", LANGUAGE_MODEL | {"head_dim": 8}),
    # every second layer has a window of 16 tokens
    "gemma3_text": ("Gemma3TextConfig", GEMMA3 | {"sliding_window_pattern": 2}),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "pad_token_id": 0}
        | {"vocab_size": len(VOCABULARY), "initializer_range": 0.2},
    ),
    "gpt_neox": ("GPTNeoXConfig", LANGUAGE_MODEL),
    "ministral": ("MinistralConfig", LANGUAGE_MODEL | {"head_dim": 8, "sliding_window": 16}),
    "olmo": ("OlmoConfig", LANGUAGE_MODEL | {"clip_qkv": 0.5}),
    "olmo2": ("Olmo2Config", LANGUAGE_MODEL),
    "opt": (
        "OPTConfig",
        LANGUAGE_MODEL | {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
    "phi": ("PhiConfig", LANGUAGE_MODEL | {"partial_rotary_factor": 0.5}),
    "phi3": ("Phi3Config", LANGUAGE_MODEL | {"sliding_window": 16}),
    "smollm3": ("SmolLM3Config", LANGUAGE_MODEL | {"no_rope_layers": [1, 0]}),
    "gemma2": (
        "Gemma2Config",
        LANGUAGE_MODEL | {"head_dim": 8, "attn_logit_softcapping": 1.0, "sliding_window": 16},
    ),
}
"""Families near to those above; fewer tests run them."""


def save_tokenizer(folder: Path, *, types: bool = True) -> None:
    """A lower-casing WordPiece tokenizer, BERT's way."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=rust,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
        model_input_names=names,
    ).save_pretrained(folder)


class TinyModels:
    """Folders of tiny models, made when first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, str] = {}

    def __call__(self, family: str, head: str, **config: Any) -> str:
        """A model with the head (`SequenceClassification`, …; empty: none) and its tokenizer."""
        wanted = f"{family} {head} {sorted(config.items())}"
        if wanted not in self._made:
            folder = self._root / f"{len(self._made)}-{family}"
            self._made[wanted] = str(save_model(folder, family, head, **config))
        return self._made[wanted]


def save_model(folder: Path, family: str, head: str, **config: Any) -> Path:
    """A model and its tokenizer in the folder."""
    import torch
    import transformers

    name, settings = (CONFIGS | MORE_CONFIGS)[family]
    torch.manual_seed(7)
    configuration = getattr(transformers, name)(**(settings | config))
    auto = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")
    auto.from_config(configuration).eval().save_pretrained(folder)
    takes_types = family in ("bert", "electra", "deberta-v2")
    save_tokenizer(folder, types=takes_types)
    return folder


def answers(
    task: Task, texts: list[str], *, pairs: list[str] | None = None, budget: int = 2048
) -> list[dict[str, Any]]:
    """What the task says of each text, batched as the pipeline batches."""
    encoded = task.encode(texts, pairs)
    found: dict[int, dict[str, Any]] = {}
    for rows in pack(encoded.lengths, budget, padded=getattr(task, "padded", True)):
        batch = encoded.take(rows)
        decoded = task.decode(batch, task.forward(batch))
        assert decoded.schema.equals(pa.schema(task.columns()))
        found |= zip(rows.tolist(), decoded.to_pylist(), strict=True)
    return [found[i] for i in range(len(texts))]


TEXTS = [
    "",
    " ",
    "the",
    "\x00",
    "a\x00b the weather",
    "the weather is fine today",
    "the weather is fine today",
    "Anna works at Acme in Berlin, and New York!",
    "שלום עולם של good",
    "😀😀 good 😀 film 👩‍👩‍👧 bad",
    "unhappy microsoft running " * 12,
    "[PAD] the [SEP] [MASK] a",
    "very long text with words of all kinds. " * 40,
    "one two three four five six seven " * 150,
    "x" * 300,
    " ".join(["paris"] * 3000),
    "not a bad film",
]
