"""Whether a folder has all of a model's files: weights with all their shards, and a tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from headrace.tasks.tokenizer_files import has_vocabulary

INDEXES = {
    "model.safetensors.index.json": "model.safetensors",
    "pytorch_model.bin.index.json": "pytorch_model.bin",
}
"""The index of sharded weights → the file that is taken in its place where it is there."""
WEIGHTS = (".safetensors", ".bin")
LAYER = re.compile(r"^(?P<of>(?:.*?\.)?(?:layers?|h|blocks?))\.(?P<number>\d+)\.")
"""The outermost numbered layer in a weight's name, in nearly all families of transformers 5.23."""

SCALE = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|SCB|(weight|input)_scale(_inv|_2)?|weight_(packed|zero_point)"
    r"|weight\.(nested_)?(absmax|quant_map)|weight\.quant_state\..*)$"
)
"""What is beside a quantized weight, by the quantizers of transformers 5.23 and ModelOpt."""
ADAPTER = re.compile(r"(^|[._])lora_(A|B|embedding_A|embedding_B)([._]|$)")
"""Matrices of LoRA that were not merged into the layers."""
TABLE = re.compile(r"(^|\.)(\w*word_embeddings|embed_tokens|tok_embeddings|wte|shared)\.weight$")
"""The table of tokens, in nearly all families of transformers 5.23."""
OTHER_PURPOSE = re.compile(
    r"(^|\.)(cls|pooler|classifier|pre_classifier|classification\w*|score|qa_\w+|answer_\w+|\w*logits\w*|\w*head\w*"
    r"|\w*predictions?|pred_layer|generator\w*|discriminator\w*|mlm\w*|nsp\w*|sop\w*|vocab_\w+|embed_out|out_proj"
    r"|sequence_summary|decoder|mtp\w*|vision\w*|visual\w*|image\w*|audio\w*|speech\w*|talker|\w*mm_\w+"
    r"|multi_modal\w*|logit_scale|logit_bias)(\.|$)"
)
"""Weights that a task may leave unused: heads for other tasks, decoders, other senses."""
BUFFER = re.compile(
    r"(position_ids|token_type_ids|inv_freq|masked_bias|(attn|attention)\.bias|relative_position_index"
    r"|num_batches_tracked|(^|[._])mask(_bias)?)$"
)
"""What older checkpoints hold, and newer code computes."""


def missing_shards(index: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """The files that an index of weights names and that are not there."""
    weights = index.get("weight_map")
    wanted = weights.values() if isinstance(weights, Mapping) else ()
    return sorted({str(name) for name in wanted}.difference(names))


def is_whole(files: Mapping[str, Path]) -> bool:
    """Whether these files, by their names in the folder, are a model with its tokenizer.

    A cache may hold some files only: another program needed no more.
    """
    if "config.json" not in files or not has_vocabulary(files):
        return False
    if not any(PurePosixPath(name).suffix in WEIGHTS for name in files):
        return False
    for index, whole in INDEXES.items():
        if index in files and whole not in files:
            try:
                found = json.loads(files[index].read_bytes())
            except (OSError, ValueError):
                return False
            if missing_shards(found if isinstance(found, Mapping) else {}, files):
                return False
    return True
