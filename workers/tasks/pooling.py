"""From token vectors to a row's vector, as sentence-transformers' modules do it; on the device.

Token vectors come flat, `[tokens, width]`; everything after the model is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.tasks.contract import LoadRequest
from headrace.tasks.sentence_files import Module, Recipe
from schemas.errors import ModelError
from workers.engines.packed.families import Rows, mean_of

Step = Callable[[Any], Any]
"""Row vectors `[rows, width]` to row vectors."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Token vectors of a batch; those of the prompt are skipped if it must not be pooled."""

    flat: Any
    """`[tokens, width]`."""
    rows: Rows
    skipped: int
    """Tokens at the start of each row that are not pooled."""

    def positions(self) -> Any:
        """Position of each token in its row, int64 `[tokens]`."""
        import torch

        starts = torch.repeat_interleave(self.rows.first, self.rows.lengths)
        return torch.arange(len(self.flat), device=self.flat.device) - starts

    def sums(self, weights: Any) -> tuple[Any, Any]:
        """Weighted sums of each row `[rows, width]`, and the sums of its weights `[rows, 1]`."""
        import torch

        weights = weights * (self.positions() >= self.skipped)
        weights = weights.float().unsqueeze(1)
        both = torch.cat([self.flat.float() * weights, weights], dim=1)
        found = torch.segment_reduce(both, "sum", lengths=self.rows.lengths, unsafe=True)
        return found[:, :-1], found[:, -1:].clamp(min=1e-9)


def _mean(tokens: _Tokens) -> Any:
    import torch

    if not tokens.skipped:
        return mean_of(tokens.flat, tokens.rows)
    sums, counts = tokens.sums(torch.ones(len(tokens.flat), device=tokens.flat.device))
    return sums / counts


def _mean_sqrt_len(tokens: _Tokens) -> Any:
    import torch

    sums, counts = tokens.sums(torch.ones(len(tokens.flat), device=tokens.flat.device))
    return sums / counts.sqrt()


def _weighted_mean(tokens: _Tokens) -> Any:
    sums, weights = tokens.sums(tokens.positions() + 1)
    return sums / weights


def _max(tokens: _Tokens) -> Any:
    import torch

    flat = tokens.flat.float()
    if tokens.skipped:
        flat = flat.masked_fill((tokens.positions() < tokens.skipped).unsqueeze(1), -torch.inf)
    return torch.segment_reduce(flat, "max", lengths=tokens.rows.lengths, unsafe=True)


def _first(tokens: _Tokens) -> Any:
    rows = tokens.rows
    return tokens.flat[rows.first + tokens.skipped * (rows.lengths > tokens.skipped)].float()


def _last(tokens: _Tokens) -> Any:
    return tokens.flat[tokens.rows.first + tokens.rows.lengths - 1].float()


# Source: sentence-transformers 6.2, sentence_transformer/modules/pooling.py
MODES: dict[str, Callable[[_Tokens], Any]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def pooler(recipe: Recipe, steps: Sequence[Step], skipped: int = 0) -> Callable[[Any, Rows], Any]:
    """The pooling, the modules after it, and the width; `skipped` tokens of a row are the prompt's."""

    def pool(flat: Any, rows: Rows) -> Any:
        import torch
        from torch.nn.functional import normalize

        tokens = _Tokens(flat, rows, skipped)
        parts = [MODES[mode](tokens) for mode in recipe.pooling]
        vectors = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        for step in steps:
            vectors = step(vectors)
        vectors = vectors[:, : recipe.truncate_dim]
        return normalize(vectors) if recipe.normalize else vectors

    return pool


def load_steps(recipe: Recipe, request: LoadRequest) -> list[Step]:
    """The modules after the pooling, with their weights on the device.

    Raises:
        ModelError: a module's weights are missing, or are not those of its kind.
    """
    return [_load_step(module, request) for module in recipe.after]


def _load_step(module: Module, request: LoadRequest) -> Step:
    import torch
    from torch.nn.functional import layer_norm, linear, normalize

    if module.kind == "Normalize":
        return normalize
    folder = Path(request.model_path) / module.path
    weights = _weights(folder, request)
    why = module.misfit({name: tensor.shape for name, tensor in weights.items()})
    if why:
        raise ModelError(f"{folder}, a {module.kind} module: {why}")
    if bad := sorted(name for name, tensor in weights.items() if not tensor.isfinite().all()):
        raise ModelError(
            f"{folder}, a {module.kind} module: its weights hold NaN or infinity ({bad[0]}): no row "
            "would have an answer; the training that made them failed, take an earlier checkpoint"
        )
    try:
        if module.kind == "LayerNorm":
            scale, shift = weights["norm.weight"], weights["norm.bias"]
            return lambda vectors: layer_norm(vectors, scale.shape, scale, shift)
        weight, bias = weights["linear.weight"], weights.get("linear.bias")
    except KeyError as error:
        raise ModelError(
            f"{request.model_path}/{module.path} has no weights {error} of a {module.kind} module"
        ) from error
    kind = getattr(torch.nn, module.activation, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise ModelError(f"{request.model_path}/{module.path}: torch.nn has no {module.activation}")
    activate, residual = kind(), weights.get("residual.weight")

    def dense(vectors: Any) -> Any:
        if vectors.shape[1] != weight.shape[1]:
            raise ModelError(
                f"{folder}, a Dense module, takes vectors of {weight.shape[1]} numbers, and gets "
                f"{vectors.shape[1]}"
            )
        found = activate(linear(vectors, weight, bias))
        if not module.residual:
            return found
        return found + (vectors if residual is None else linear(vectors, residual))

    return dense


def _weights(folder: Path, request: LoadRequest) -> dict[str, Any]:
    from safetensors.torch import load_file

    file, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if file.is_file():
        found = load_file(file)
    elif pickled.is_file() and request.allow_pickle:
        import torch

        found = torch.load(pickled, map_location="cpu", weights_only=True)
    else:
        raise ModelError(
            f"{folder} has no model.safetensors"
            + (", and its pickle needs --allow-pickle" if pickled.is_file() else "")
        )
    return {name: tensor.float().to(request.device) for name, tensor in found.items()}
