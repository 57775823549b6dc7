"""Weights that an architecture needs and a checkpoint lacks, and those that it has and nothing runs. Names only.

Of the families in `FAMILIES` the names are known here, so that neither torch nor transformers is needed.
A test compares them with transformers. Of others, layers are compared with each other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.process.numbers import plural
from headrace.tasks.weight_files import ADAPTER, BUFFER, LAYER, OTHER_PURPOSE
from producers.models.unused_weights import layer_count
from schemas.errors import ModelError

OLD = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")
"""What checkpoints of 2018 call them; transformers takes both names."""
SEQUENCE, TOKENS, ANSWERS, MASKED = (
    f"For{name}" for name in ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM")
)  # fmt: skip
MOST = 0.75  # chosen: of a stack's layers; kinds of layers that take turns are mostly halves and quarters


def _pairs(names: str) -> tuple[str, ...]:
    """`weight` and `bias` of each."""
    return tuple(f"{name}.{part}" for name in names.split() for part in ("weight", "bias"))


@dataclass(frozen=True, slots=True)
class Family:
    """Names of weights that each model of a family has, whatever its configuration says."""

    prefix: str
    """What is before the names where the model has a head."""
    layers: str
    """The stack of layers, without that prefix."""
    outside: tuple[str, ...]
    inside: tuple[str, ...]
    """Of each layer, below its number."""
    heads: Mapping[str, tuple[str, ...]]
    """By what the architecture ends with."""
    more: frozenset[str] = frozenset()
    """First parts of names that some configurations add."""
    more_inside: frozenset[str] = field(default=frozenset({"crossattention"}))


_TABLES = tuple(f"embeddings.{name}_embeddings.weight" for name in ("word", "position"))
_TYPES = "embeddings.token_type_embeddings.weight"
_NORM = _pairs("embeddings.LayerNorm")
_OUTPUT = "attention.output.dense attention.output.LayerNorm intermediate.dense output.dense output.LayerNorm"
_BERT = _pairs(f"attention.self.query attention.self.key attention.self.value {_OUTPUT}")
_PLAIN = {TOKENS: _pairs("classifier"), ANSWERS: _pairs("qa_outputs")}
_TWO_LAYERS = _PLAIN | {
    SEQUENCE: _pairs("classifier.dense classifier.out_proj"),
    MASKED: _pairs("lm_head.dense lm_head.layer_norm"),
}
_BEHIND_HEAD = ("head.dense.weight", "head.norm.weight", *_pairs("classifier"))
_ROBERTA = Family("roberta", "encoder.layer", (*_TABLES, _TYPES, *_NORM), _BERT, _TWO_LAYERS)

FAMILIES: Mapping[str, Family] = {
    "bert": Family(
        "bert", "encoder.layer", (*_TABLES, _TYPES, *_NORM), _BERT,
        _PLAIN | {
            SEQUENCE: _pairs("pooler.dense classifier"),
            MASKED: _pairs("cls.predictions.transform.dense cls.predictions.transform.LayerNorm"),
        },
    ),
    "roberta": _ROBERTA, "xlm-roberta": _ROBERTA, "camembert": _ROBERTA,
    "electra": Family(
        "electra", "encoder.layer", (*_TABLES, _TYPES, *_NORM), _BERT,
        _TWO_LAYERS | {MASKED: _pairs("generator_predictions.dense generator_predictions.LayerNorm")},
        frozenset({"embeddings_project"}),
    ),
    "distilbert": Family(
        "distilbert", "transformer.layer", (*_TABLES, *_NORM),
        _pairs(
            "attention.q_lin attention.k_lin attention.v_lin attention.out_lin sa_layer_norm ffn.lin1 "
            "ffn.lin2 output_layer_norm"
        ),
        _PLAIN | {
            SEQUENCE: _pairs("pre_classifier classifier"),
            MASKED: _pairs("vocab_transform vocab_layer_norm"),
        },
    ),
    "mpnet": Family(
        "mpnet", "encoder.layer", (*_TABLES, *_NORM, "encoder.relative_attention_bias.weight"),
        _pairs(
            "attention.attn.q attention.attn.k attention.attn.v attention.attn.o attention.LayerNorm "
            "intermediate.dense output.dense output.LayerNorm"
        ),
        _TWO_LAYERS,
    ),
    "deberta-v2": Family(
        "deberta", "encoder.layer", (_TABLES[0], *_NORM),
        _pairs(f"attention.self.query_proj attention.self.key_proj attention.self.value_proj {_OUTPUT}"),
        _PLAIN | {SEQUENCE: _pairs("pooler.dense classifier")},
    ),
    "modernbert": Family(
        "model", "layers", ("embeddings.tok_embeddings.weight", "embeddings.norm.weight", "final_norm.weight"),
        ("attn.Wqkv.weight", "attn.Wo.weight", "mlp.Wi.weight", "mlp.Wo.weight", "mlp_norm.weight"),
        {SEQUENCE: _BEHIND_HEAD, TOKENS: _BEHIND_HEAD, ANSWERS: _BEHIND_HEAD, MASKED: _BEHIND_HEAD[:2]},
        more_inside=frozenset({"attn_norm"}),
    ),
}  # fmt: skip
"""By `model_type`. Source: transformers 5.23, the modules `modeling_…`."""


def check_needed(
    names: Collection[str], config: Mapping[str, Any], head: str | None, where: str
) -> None:
    """Check that a model of a family that is known has all weights for a head, or for none.

    Raises:
        ModelError: some are missing: they would be random.
    """
    family = FAMILIES.get(str(config.get("model_type")))
    if (
        family is None or not names or config.get("quantization_config")
    ):  # which has names of its own
        return
    there = {_own_name(name, family) for name in names}
    lacking = [name for name in _needed(family, config, head) if name not in there]
    if lacking:
        raise ModelError(
            f"model {where} lacks {plural(len(lacking), 'weight')} of its own architecture, which would "
            f"be random: {', '.join(lacking[:3])}{', …' if len(lacking) > 3 else ''}"
        )


def odd_weights(names: Collection[str], config: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on weights that do not run, and on layers that lack what all others have."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        yield from _holes(names)
        return
    more = sorted(name for name in names if not _is_known(_own_name(name, family), family))
    if more:
        yield (
            f"its weights have {len(more)} that its architecture does not have, and which do not run: "
            f"{', '.join(more[:3])}{', …' if len(more) > 3 else ''}"
        )


def _own_name(name: str, family: Family) -> str:
    """Without the prefix, and as transformers calls it today."""
    return OLD.sub(
        lambda found: {"gamma": "weight", "beta": "bias"}[found[0]],
        name.removeprefix(f"{family.prefix}."),
    )


def _needed(family: Family, config: Mapping[str, Any], head: str | None) -> Iterator[str]:
    yield from family.outside
    for number in range(layer_count(config) or 0):
        yield from (f"{family.layers}.{number}.{name}" for name in family.inside)
    yield from family.heads.get(head or "", ())


def _is_known(name: str, family: Family) -> bool:
    if BUFFER.search(name) or ADAPTER.search(name):  # of adapters there is a sentence of its own
        return True
    if layer := LAYER.match(name):
        first = {part.split(".")[0] for part in family.inside} | family.more_inside
        return layer["of"] != family.layers or name[layer.end() :].split(".")[0] in first
    first = {part.split(".")[0] for part in (*family.outside, family.layers)} | family.more
    first.update(part.split(".")[0] for head in family.heads.values() for part in head)
    return bool(OTHER_PURPOSE.search(name)) or name.split(".")[0] in first


def _holes(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each stack of layers with a layer inside that lacks what most others have.

    Layers of another kind have other names in place of these; the first and the last may be special.
    """
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in names:
        found = LAYER.match(name)
        if found and not OTHER_PURPOSE.search(found["of"]):  # pictures and sound: not read here
            layers = stacks.setdefault(found["of"], {})
            layers.setdefault(int(found["number"]), set()).add(name[found.end() :])
    for stack, layers in sorted(stacks.items()):
        usual = {
            part
            for part in set().union(*layers.values())
            if sum(part in it for it in layers.values()) >= MOST * len(layers)
        }
        for number in sorted(layers)[1:-1]:
            lacking = sorted(usual - layers[number])
            if lacking and layers[number] < usual:
                yield (
                    f"layer {stack}.{number} lacks {lacking[0]}{', …' if len(lacking) > 1 else ''}, which "
                    "most others have: if the architecture has it, a worker refuses the model"
                )
                break
