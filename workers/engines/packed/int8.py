"""Linear layers of a CPU model in 8-bit integers, with a scale for each token and each output.

Weights are rounded once, one scale for each output. Activations are rounded as they come, one
scale for each token, so that a row's answer does not depend on what else is in its batch. The
product is oneDNN's (u8 by s8), the same operator that `torch.compile` uses for quantized
models; it is not public, so that a layer is replaced only after it gave nearly the same answer.

Processors without VNNI add two neighbouring products in 16 bits, and cut off what does not fit.
There weights get scales with which no two neighbours can reach that limit.

Two things keep it exact enough. Channels that are large for every token (BERT's outliers) are
shrunk in the activations and stretched in the weights, by what a few built-in sentences show.
And a layer whose answers on these sentences are too far off stays as it was.

Nothing is exported or kept: rounding the weights takes less time than loading them.

Source: Xiao et al., SmoothQuant, 2023 (channels); Yao et al., ZeroQuant, 2022 (scale per token)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from headrace.process.cpu import adds_in_32_bits, cpu_flags, multiplies_int8
from schemas.errors import ModelError
from workers.devices.device import CPU, not_served
from workers.engines.packed.linear import (
    EXPECTED_TOKENS,
    SMALLEST_SIDE,
    gelu_behind,
    identity,
    release_pages,
    shared_weights,
)

# Relative error, mean over a layer's outputs, beyond which it stays in fp32. Measured with MiniLM:
# 35 of 36 layers have 0.010 to 0.035; the one with 0.049 makes a sixth of the whole error.
LARGEST_ERROR = 0.04
# What a weight is rounded to at most. Where sums have 16 bits, two neighbours of one sign together,
# which makes one more when both are rounded up: 255 * 128 = 32,640 fits. Required.
HIGHEST = 127
# Share of a channel's size that goes from the activations into the weights.
# Source: SmoothQuant, where 0.5 is the usual choice; 0.3, 0.65 and 0.8 measured worse here.
SMOOTHING = 0.5
# A layer's input is one-sided when it goes down this much less than up: behind a GELU, whose lowest
# value is -0.17. Each text lights other channels there, and a few sentences say little of them.
ONE_SIDED = 1 / 15
# What the outliers of a model are looked for with: short and long, names, numbers, marks.
SENTENCES = (
    "The weather is fine today, is it not?",
    "This is great, thanks!",
    "I don't think so: the price (2024) went up by 30%, and nobody knows why...",
    "https://example.com/a?b=c #tag @name \U0001f600 he said: \"no\"",
    "Anna Schmidt of Acme Inc. met the mayor of New York in Paris on Monday, 3 May.",
    "def f(x): return x + 1  # adds one; see also [2], and <b>bold</b>",
    "No.",
    "It was not bad at all, though the second half of the film is far too long and the ending, "
    "which I will not give away, made little sense to me or to anybody I went with.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantized:
    """How many linear layers were replaced and kept."""

    replaced: int
    kept: int
    """Layers inside the model's blocks that stay in fp32, because int8 is too far off there."""


def quantize(
    model: Any, run_sentences: Callable[[], Any], flags: frozenset[str] | None = None
) -> Quantized:
    """Replace the linear layers in the blocks of an fp32 model in eval mode, in place.

    Heads, poolers and embeddings stay: they are small, and the answer depends on them.
    `run_sentences` runs the model over some text, unpadded; it is called twice. `flags` are the
    CPU's, absent: this machine's.

    Raises:
        ModelError: this CPU does not serve int8.
    """
    flags = cpu_flags() if flags is None else flags
    if not multiplies_int8(flags):
        raise ModelError(f"dtype {not_served('int8', CPU, flags)}")
    layers = dict(_inside_blocks(model))
    seen = _ranges(layers, run_sentences)
    new = _replacements(layers, seen, adds_in_32_bits(flags))
    errors = _errors(layers, new, run_sentences)
    shared = shared_weights(model)
    replaced = 0
    for name, layer in new.items():
        if errors.get(name, float("inf")) <= LARGEST_ERROR:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, layer)
            if layers[name].weight.data_ptr() not in shared:
                release_pages(layers[name].weight)
            replaced += 1
    _take_in_gelu(model)
    return Quantized(replaced, len(layers) - replaced)


def _take_in_gelu(model: Any) -> None:
    """Let layers that are followed by a GELU compute it themselves, in place."""
    for owner in list(model.modules()):
        name, activation = gelu_behind(owner)
        layer = getattr(owner, name, None) if name else None
        if isinstance(layer, _module_class()):
            layer.then_gelu = True
            setattr(owner, activation, identity())


def _inside_blocks(model: Any) -> Any:
    """(name, linear layer) of every layer inside the repeated blocks that gains from int8."""
    import torch

    for prefix, blocks in model.named_modules():
        if isinstance(blocks, torch.nn.ModuleList):
            for name, layer in blocks.named_modules():
                if type(layer) is torch.nn.Linear and min(layer.weight.shape) >= SMALLEST_SIDE:
                    yield f"{prefix}.{name}", layer


@dataclass(slots=True)
class _Range:
    """The inputs of a layer: the largest and lowest value of each channel, `[in]`."""

    high: Any
    low: Any

    def grow(self, x: Any) -> None:
        import torch

        flat = x.detach().flatten(0, -2)
        self.high = torch.maximum(self.high, flat.amax(0))
        self.low = torch.minimum(self.low, flat.amin(0))


def _ranges(layers: dict[str, Any], run_sentences: Callable[[], Any]) -> dict[str, _Range]:
    import torch

    seen = {
        name: _Range(*(torch.full((layer.in_features,), v) for v in (float("-inf"), float("inf"))))
        for name, layer in layers.items()
    }
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, at=seen[name]: at.grow(given[0]))
        for name, layer in layers.items()
    ]
    try:
        run_sentences()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _replacements(
    layers: dict[str, Any], seen: dict[str, _Range], wide_sums: bool
) -> dict[str, Any]:
    """An int8 layer for each that was used; layers that read one input share its rounding."""
    import torch

    groups: dict[str, list[list[str]]] = {}
    for name in layers:
        if not torch.isfinite(seen[name].high).all():
            continue  # never run, e.g. a block that the model skips
        siblings = groups.setdefault(name.rpartition(".")[0], [])
        for group in siblings:
            if torch.equal(seen[group[0]].high, seen[name].high):
                group.append(name)
                break
        else:
            siblings.append([name])
    return {
        name: layer
        for siblings in groups.values()
        for group in siblings
        for name, layer in _group(group, layers, seen[group[0]], wide_sums).items()
    }


def _group(
    names: list[str], layers: dict[str, Any], seen: _Range, wide_sums: bool
) -> dict[str, Any]:
    import torch

    largest = torch.maximum(seen.high, -seen.low)
    factors = None
    if float(-seen.low.min()) > float(seen.high.max()) * ONE_SIDED:
        weights = torch.stack([layers[n].weight.detach().abs().amax(0) for n in names]).amax(0)
        factors = largest.clamp(min=1e-5) ** SMOOTHING
        factors = factors / weights.clamp(min=1e-5) ** (1 - SMOOTHING)
        factors = factors / factors.mean()
    rounding = _Rounding(factors)
    make = _module_class()
    return {name: make(layers[name], rounding, wide_sums) for name in names}


class _Rounding(threading.local):
    """Activations `[..., in]` to u8, one scale per token; kept for the next layer that reads them.

    Each lane has its own.
    """

    def __init__(self, factors: Any) -> None:
        self.factors = factors
        self._shrink = None if factors is None else 1 / factors
        self._last: Callable[[], Any] = lambda: None
        self._rounded: tuple[Any, Any, Any] | None = None

    def __call__(self, x: Any) -> tuple[Any, Any, Any]:
        """u8 `[tokens, in]`, scale and lowest `[tokens, 1]`: `x` is about u8 * scale + lowest."""
        import weakref

        import torch

        if self._rounded is None or self._last() is not x:
            flat = x.flatten(0, -2) if self._shrink is None else x.flatten(0, -2) * self._shrink
            low = flat.amin(1, keepdim=True)
            scale = ((flat.amax(1, keepdim=True) - low) / 255).clamp_(min=1e-12)
            steps = scale.reciprocal()
            levels = flat * steps if self._shrink is None else flat.mul_(steps)
            levels.add_(-low * steps - 128).round_()
            # by way of s8, and its highest bit turned: torch 2.13 converts to u8 five times slower
            rounded = levels.to(torch.int8).view(torch.uint8).bitwise_xor_(128)
            self._last, self._rounded = weakref.ref(x, self._forget), (rounded, scale, low)
        return self._rounded

    def _forget(self, _: Any) -> None:
        """Drop the cache entry once the activations are freed."""
        self._rounded = None


def _errors(
    layers: dict[str, Any], new: dict[str, Any], run_sentences: Callable[[], Any]
) -> dict[str, float]:
    """The relative error of each int8 layer on the inputs that it has in the fp32 model.

    Relative, and the mean of the layer's outputs: a few that are very large hide the others.
    """
    import torch

    sums: dict[str, list[Any]] = {name: [0.0, 0.0] for name in new}

    def compare(name: str, given: Any, expected: Any) -> None:
        apart = (new[name](given) - expected).flatten(0, -2)
        sums[name][0] += apart.square().sum(0)
        sums[name][1] += expected.flatten(0, -2).square().sum(0)

    hooks = [
        layer.register_forward_hook(lambda _, given, out, name=name: compare(name, given[0], out))
        for name, layer in layers.items()
        if name in new
    ]
    try:
        with torch.inference_mode():
            run_sentences()
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: float((off / of.clamp(min=1e-30)).sqrt().mean())
        for name, (off, of) in sums.items()
        if torch.is_tensor(of)
    }


def _scales(weight: Any, wide_sums: bool) -> Any:
    """The scale of each row's rounded weights, `[out]`.

    Without `wide_sums` the larger sum of two neighbours counts instead of the largest weight.
    Neighbours are channels 0 and 1, 2 and 3, ...: the pairs that `vpmaddubsw` adds in oneDNN's
    weight layout. Two large ones are seldom neighbours, so that this costs a fifth of the steps
    between 0 and 127. A layer's error is then 1.1 times as large (MiniLM, 0.0121 instead of
    0.0109). With weights or activations in 7 bits it would be 1.5 times as large (0.0166).
    """
    import torch

    largest = weight.abs().amax(1)
    if not wide_sums:
        pairs = torch.nn.functional.pad(weight, (0, weight.shape[1] % 2)).unflatten(1, (-1, 2))
        above, below = pairs.clamp(min=0).sum(2), pairs.clamp(max=0).sum(2)
        largest = torch.maximum(above.amax(1), -below.amin(1))
    return (largest / HIGHEST).clamp(min=1e-12)


@cache
def _module_class() -> Any:
    """Made when first used, because its base is torch's."""
    import torch

    run = torch.ops.onednn.qlinear_pointwise

    class Int8Linear(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
        def __init__(self, layer: Any, rounding: _Rounding, wide_sums: bool) -> None:
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            weight = layer.weight.detach()
            if rounding.factors is not None:
                weight = weight * rounding.factors
            self.scales = _scales(weight, wide_sums)
            rounded = (weight / self.scales[:, None]).round().to(torch.int8)
            shape = [EXPECTED_TOKENS, self.in_features]
            self.weight = torch.ops.onednn.qlinear_prepack(rounded, shape)
            self.zeros = torch.zeros(self.out_features, dtype=torch.int64)
            # what a token's lowest value adds, where all of it is
            self.sums = rounded.sum(1, dtype=torch.float32) * self.scales
            self.bias = (
                torch.zeros(self.out_features) if layer.bias is None else layer.bias.detach()
            )
            self.rounding = rounding
            self.then_gelu = False

        def forward(self, x: Any) -> Any:
            rounded, scale, low = self.rounding(x)
            product = run(
                rounded, 1.0, 0, self.weight, self.scales, self.zeros,
                None, 1.0, 0, torch.float32, "none", [], "",
            )  # fmt: skip
            result = torch.addcmul(self.bias, product, scale).addcmul_(low, self.sums)
            if self.then_gelu:
                torch.ops.aten.gelu_(result)
            return result.unflatten(0, x.shape[:-1])

    return Int8Linear
