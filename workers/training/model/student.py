"""Students: a base with fewer layers, and the loss against a teacher's scores."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from schemas.errors import ModelError
from schemas.records.training import Distillation

if TYPE_CHECKING:
    import torch


def kept_layers(of: int, layers: int) -> tuple[int, ...]:
    """Which of a model's layers a student begins with: evenly spread, the first and last among them.

    Half of 12 are 0, 2, 4, 7, 9 and 11, as in DistilBERT.
    """
    if layers == 1:
        return (0,)
    return tuple(round(i * (of - 1) / (layers - 1)) for i in range(layers))


def student_of(model: Any, layers: int) -> Any:
    """A model of the same family with this many layers, each with the weights of a layer of `model`.

    The same model where it has no more. It is what its configuration says, and no other model
    with layers taken out: so it is the same when it is loaded again.

    Raises:
        ModelError: the model has no list of layers.
    """
    of = int(model.config.num_hidden_layers)
    if of <= layers:
        return model
    path = _path_of_layers(model, of)
    kept = kept_layers(of, layers)
    config = type(model.config).from_dict(model.config.to_dict())
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in kept]
    student = type(model)._from_config(config)
    numbered = re.compile(rf"{re.escape(path)}\.(\d+)\.(.*)")
    state = {}
    for name, tensor in model.state_dict().items():
        found = numbered.fullmatch(name)
        if found is None:
            state[name] = tensor
        elif int(found[1]) in kept:
            state[f"{path}.{kept.index(int(found[1]))}.{found[2]}"] = tensor
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"--student-layers: {error}") from error
    return student


def _path_of_layers(model: Any, count: int) -> str:
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return str(name)
    raise ModelError(f"--student-layers: {type(model).__name__} has no list of {count} layers")


def distillation_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    teacher: torch.Tensor,
    is_gold: torch.Tensor,
    by: Distillation,
) -> torch.Tensor:
    """Mean loss over the rows, against the teacher, the gold label, or both.

    `logits` and `teacher` are `[rows, labels]`, probabilities in the latter, NaN where the teacher
    said nothing; `targets` int64 `[rows]`, `is_gold` bool `[rows]`.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015
    """
    import torch
    from torch.nn import functional

    heat = by.temperature
    is_told = ~teacher.isnan().any(-1)
    logits = logits.float()
    known = torch.where(is_told[:, None], teacher, 1.0 / teacher.shape[-1])
    # logits of the teacher up to a constant; a probability of 0 is one too small for float32
    softened = torch.log_softmax(known.clamp_min(1e-7).log() / heat, -1)
    own = torch.log_softmax(logits / heat, -1)
    soft = functional.kl_div(own, softened, reduction="none", log_target=True).sum(-1) * heat**2
    hard = functional.cross_entropy(logits, targets, reduction="none")
    share = torch.where(is_gold, torch.where(is_told, by.gold_weight, 1.0), 0.0)
    return (share * hard + (1.0 - share) * soft).mean()
