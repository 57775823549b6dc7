"""A configuration of each family, small enough that a model of it takes a few megabytes.

The family's own defaults are kept where they are not sizes; sizes are set by their names. What a
family needs beside that (parts that must divide one another) stands in `OWN`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

VOCABULARY = 600
POSITIONS = 512
HIDDEN, HEADS, LAYERS = 32, 4, 2

SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "d_embed", "embed_dim", "hidden_dim",
         "d_latents", "lru_width", "embedding_size", "word_embed_proj_dim", "true_hidden_size"),
        HIDDEN,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads",
         "decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads",
         "num_self_attention_heads", "num_cross_attention_heads", "mamba_n_heads", "attention_heads",
         "linear_num_value_heads", "linear_num_key_heads"),
        HEADS,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers",
         "decoder_layers", "num_decoder_layers", "num_encoder_layers", "layers"),
        LAYERS,
    ),
    **dict.fromkeys(
        ("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff", "d_inner", "dff", "ffn_dim",
         "encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size", "feed_forward_size",
         "shared_expert_intermediate_size", "mlp_intermediate_size", "expert_ffn_hidden_size"),
        48,
    ),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "attention_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "linear_key_head_dim",
                     "linear_value_head_dim", "mamba_d_head", "mamba_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_top_k", "moe_k"), 2),
    **dict.fromkeys(("mamba_d_state", "mamba_dt_rank", "state_size", "d_state"), 8),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length",
         "max_sequence_length"), POSITIONS,
    ),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "n_words"), VOCABULARY),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "n_group": 1,
    "topk_group": 1,
    "block_size": 8,
    "chunk_size": 16,
    "mamba_chunk_size": 16,
    "attention_window": 16,
    "sliding_window": 16,
    "local_attention": 16,
    "hidden_size_per_layer_input": 8,
}  # fmt: skip

# Sizes that a family leaves unset on purpose: none of these is there then.
LEFT_UNSET = frozenset(
    ("sliding_window", "chunk_size", "block_size", "q_lora_rank", "attention_window", "n_inner")
)

SUB = ("text_config", "encoder", "decoder", "encoder_config", "decoder_config", "thinker_config",
       "vision_config", "audio_config", "text_encoder", "vlm_config", "language_config")  # fmt: skip

# fairseq's families count positions from behind the padding token, which is 1
FAIRSEQ = {"max_position_embeddings": POSITIONS + 2, "pad_token_id": 1, "bos_token_id": 0}

# queries and keys of low rank, rotary and plain parts side by side
LATENT = {"qk_rope_head_dim": 8, "head_dim": 8, "num_key_value_heads": HEADS}
LINEAR = ["linear_attention", "full_attention"]
THREE_AXES = re.compile(
    r"_vl|glm4v|glm_image|glm_ocr|omni|cosmos3|cohere_compass|neomme|qwen3_5|qwen4"
)
"""Types whose positions have three axes, which share a head between them (mrope_section)."""
BLOCKS = {"block_size": 8, "num_random_blocks": 2}

OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "data2vec-text", "ibert", "mpnet", "xmod",
                     "xlm-roberta-xl", "roberta-prelayernorm", "longformer", "luke", "markuplm",
                     "gte", "jina_embeddings_v3", "layoutlmv3", "lilt"), FAIRSEQ),
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "minicpm3"), LATENT),
    "mistral4": {"qk_rope_head_dim": 8, "head_dim": ..., "num_key_value_heads": HEADS},
    "big_bird": BLOCKS,
    "bigbird_pegasus": BLOCKS,
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "esmc": {"num_key_value_heads": HEADS},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "perceiver": {"num_latents": 8, "num_blocks": 1, "num_self_attends_per_block": 2},
    "qwen3_5_text": {"layer_types": LINEAR},
    "qwen3_next": {"layer_types": LINEAR},
    "layoutlmv3": {**FAIRSEQ, "coordinate_size": 4, "shape_size": 8, "visual_embed": False},
    "lilt": {**FAIRSEQ, "hidden_size": 48},
    "luke": {**FAIRSEQ, "entity_vocab_size": 8, "entity_emb_size": 8},
    "mobilebert": {"true_hidden_size": 16, "intra_bottleneck_size": 16, "embedding_size": 16},
    "reformer": {
        "hidden_size": HIDDEN, "attention_head_size": 8, "axial_pos_embds_dim": [8, 24],
        "axial_pos_shape": [16, 32], "local_attn_chunk_length": 16, "lsh_attn_chunk_length": 16,
        "hash_seed": 3, "attn_layers": ["local", "lsh"], "num_hidden_layers": ...,
    },
    "roc_bert": {"shape_vocab_size": 100, "pronunciation_vocab_size": 100,
                 "pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {**FAIRSEQ, "languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid"] * 2,
              "attention_head_dim": ..., "use_mamba_kernels": False, "mamba_dt_rank": 4},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid"] * 2,
               "n_mamba_heads": 4, "attention_head_dim": ..., "use_mamba_kernels": False},
}  # fmt: skip


def sizes_of(config: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes among a configuration's settings, as they are to be."""
    own = config.to_dict()
    found = {
        name: value
        for name, value in {**SIZES, **common}.items()
        if name in own or name in getattr(config, "attribute_map", {})
        if own.get(name, "") is not None or name not in LEFT_UNSET
    }
    rope = own.get("rope_parameters")
    if isinstance(rope, Mapping) and THREE_AXES.search(config.model_type):  # of half a head
        found["rope_parameters"] = {**rope, "mrope_section": [2, 1, 1]}
    for name in SUB:
        inner = getattr(config, name, None)
        if hasattr(inner, "to_dict"):
            own_settings = OWN.get(inner.model_type, {})
            found[name] = {
                "model_type": inner.model_type,
                **sizes_of(inner, common),
                **own_settings,
            }
    return found


def tiny_config(model_type: str, common: Mapping[str, Any] | None = None) -> Any:
    """The tiny configuration of a family; raises what its class raises.

    `common` goes into the text's configuration too, where that is a part of the whole.
    """
    from transformers import CONFIG_MAPPING

    common = common or {}
    kind = CONFIG_MAPPING[model_type]
    default = kind()
    known = {"num_labels", *default.to_dict(), *default.attribute_map}
    settings = {
        **sizes_of(default, common),
        **OWN.get(model_type, {}),
        **{name: value for name, value in common.items() if name in known},
    }
    return kind(**{name: value for name, value in settings.items() if value is not ...})
