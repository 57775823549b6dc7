"""The models that may be packed: an allow-list, with what packing must know about each.

A model that is not here is run in padded batches. A model that is here is still compared with
itself, row by row, when it is loaded (see `mode_choice`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headrace.tasks.contract import Encodings
from workers.engines.packed.forwards.bart import fit_bart
from workers.engines.packed.forwards.deberta import fit_deberta
from workers.engines.packed.model_inputs import last_of_id


@dataclass(frozen=True, slots=True)
class Rows:
    """The positions of the rows in a flat `[tokens, ...]` tensor: int64 tensors on its device."""

    first: Any
    """`[rows]`: the first token of each row."""
    last: Any
    """`[rows]`: the last token of each row that is not the padding token, as decoders pool; or as
    the family's `last` says."""
    lengths: Any
    """`[rows]`: tokens of each row."""


def mean_of(flat: Any, rows: Rows) -> Any:
    """The mean of each row's tokens in fp32: `[rows, width]` from `[tokens, width]`."""
    import torch

    return torch.segment_reduce(flat.float(), "mean", lengths=rows.lengths, unsafe=True)


@dataclass(frozen=True, slots=True)
class Family:
    """What packing must know about a model: its sequence classification head, and its positions."""

    head: Callable[[Any, Any, Rows], Any]
    """(model, last hidden states `[tokens, width]`, rows) to logits `[rows, labels]`."""
    pools: Literal["first", "last"] | None = None
    """The token of each row that the head reads, where it reads no other."""
    positions_skip_padding: bool = False
    """Positions count from `pad_token_id + 1` and stand still at padding tokens (fairseq)."""
    asks_positions: bool = False
    """Without a mask, transformers looks in the positions for rows packed into one, and waits for
    the device to know; any mask of four dimensions is taken as it is."""
    interface: bool = True
    """Whether the attention goes through transformers' interface, and ours is set there."""
    last: Callable[[Encodings, Any], np.ndarray] | None = None
    """Of a batch and the configuration: the token of each row that `Rows.last` names, `[rows]`."""
    fit: Callable[[Any], list[Any]] | None = None
    """Replaces forwards in a model so that it computes packed batches, on a CPU only, and returns
    the modules that were changed; see `forwards`. None: the model's own do."""


def _bert(model: Any, flat: Any, rows: Rows) -> Any:
    first = flat[rows.first].unsqueeze(1)  # [rows, 1, width]: the pooler takes token 0 of each
    return model.classifier(model.base_model.pooler(first))


def _classifier(model: Any, flat: Any, rows: Rows) -> Any:
    return model.classifier(flat[rows.first].unsqueeze(1))  # takes token 0 by itself


def _distilbert(model: Any, flat: Any, rows: Rows) -> Any:
    return model.classifier(model.pre_classifier(flat[rows.first]).relu())


def _modernbert(model: Any, flat: Any, rows: Rows) -> Any:
    by_mean = model.config.classifier_pooling == "mean"
    pooled = mean_of(flat, rows).to(flat.dtype) if by_mean else flat[rows.first]
    return model.classifier(model.head(pooled))


def _albert(model: Any, flat: Any, rows: Rows) -> Any:
    base = model.base_model  # its pooler is a linear layer, not a module of its own
    return model.classifier(base.pooler_activation(base.pooler(flat[rows.first])))


def _eurobert(model: Any, flat: Any, rows: Rows) -> Any:
    if model.classifier_pooling == "late":  # the mean of the tokens' logits
        tokens = model.classifier(model.activation(model.dense(flat)))
        return mean_of(tokens, rows).to(flat.dtype)
    by_mean = model.classifier_pooling == "mean"
    pooled = mean_of(flat, rows).to(flat.dtype) if by_mean else flat[rows.first]
    return model.classifier(model.activation(model.dense(pooled)))


def _deberta(model: Any, flat: Any, rows: Rows) -> Any:
    return model.classifier(model.pooler(flat[rows.first].unsqueeze(1)))


def _bart(model: Any, flat: Any, rows: Rows) -> Any:
    return model.classification_head(flat[rows.last])


def _ends(batch: Encodings, config: Any) -> np.ndarray:
    return last_of_id(batch, config.eos_token_id)


def _decoder(model: Any, flat: Any, rows: Rows) -> Any:
    return model.score(flat[rows.last])


# Read in transformers 5.23: each passes unknown keyword arguments through to its attention
# function, takes position_ids, and mixes tokens nowhere else. These look alike and are not here:
# - Gemma 2 caps the logits of its attention, which ours refuses.
# - BART counts positions by itself, and its decoder shifts the batch as one row; ours does not.
# - ConvBERT convolves over neighbours.
# - StableLM and Nemotron pass nothing through.
# - DeBERTa, MPNet and XLNet have an attention of their own; we wrote DeBERTa-v2's for packed batches.
FAMILIES: dict[str, Family] = {
    "bert": Family(_bert, pools="first"),
    "roberta": Family(_classifier, pools="first", positions_skip_padding=True),
    "xlm-roberta": Family(_classifier, pools="first", positions_skip_padding=True),
    "camembert": Family(_classifier, pools="first", positions_skip_padding=True),
    "electra": Family(_classifier, pools="first"),
    "ernie": Family(_bert, pools="first"),
    "data2vec-text": Family(_classifier, pools="first", positions_skip_padding=True),
    "roberta-prelayernorm": Family(_classifier, positions_skip_padding=True),
    "xlm-roberta-xl": Family(_classifier, positions_skip_padding=True),
    "jina_embeddings_v3": Family(_classifier),
    "nomic_bert": Family(_bert),
    "albert": Family(_albert),
    "eurobert": Family(_eurobert),
    "bart": Family(_bart, pools="last", last=_ends, fit=fit_bart),
    "deberta-v2": Family(_deberta, pools="first", interface=False, fit=fit_deberta),
    "distilbert": Family(_distilbert),
    "modernbert": Family(_modernbert),
    "llama": Family(_decoder, asks_positions=True),
    "mistral": Family(_decoder, asks_positions=True),
    "qwen2": Family(_decoder, asks_positions=True),
    "qwen3": Family(_decoder, asks_positions=True),
    "gemma": Family(_decoder, asks_positions=True),
    "gemma3_text": Family(_decoder, asks_positions=True),
    "gpt2": Family(_decoder, asks_positions=True),
    "gpt_neox": Family(_decoder, asks_positions=True),
    "ministral": Family(_decoder, asks_positions=True),
    "olmo": Family(_decoder, asks_positions=True),
    "olmo2": Family(_decoder, asks_positions=True),
    "opt": Family(_decoder, asks_positions=True),
    "phi": Family(_decoder, asks_positions=True),
    "phi3": Family(_decoder, asks_positions=True),
    "smollm3": Family(_decoder, asks_positions=True),
}

# Rotary positions that change with the longest row of the batch: such a row must not be batched
# with others of another length.
BATCH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})


def family_of(config: Any, device: str = "cpu") -> Family | None:
    """The family of a model by its configuration; None: it must be padded on this device."""
    family = FAMILIES.get(getattr(config, "model_type", ""))
    return family if family is None or family.fit is None or device == "cpu" else None


def depends_on_batch(config: Any) -> bool:
    """Whether a model's positions depend on the other rows of the batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope.get("rope_type")] + [
        r.get("rope_type") for r in rope.values() if isinstance(r, dict)
    ]
    return not BATCH_DEPENDENT_ROPE.isdisjoint(kinds)
