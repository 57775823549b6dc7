"""Matrix products of a CPU model by oneDNN where that is faster, weights laid out for it once.

PyTorch's own fp32 product calls MKL, which uses half the vector width on AMD, and reorders the
weights at each call. Measured with torch 2.13 on an AVX-512 EPYC, one thread, 2,048 tokens at
MiniLM's shapes: 90-95 GFLOP/s with `addmm`, 107-113 laid out for oneDNN, 101-109 with GELU in it
(`addmm` and then GELU: 78-94). In bfloat16, where the CPU multiplies
it: 218-230 laid out. On AVX2 GELU is faster after the product, so that each kind of layer is timed
(`layer_choice`). The same operators are what `torch.compile` uses when weights are frozen;
they are not public, so that a layer is replaced only after it gave the same answer.

Source: torch/_inductor/fx_passes/mkldnn_fusion.py
"""

from __future__ import annotations

import ctypes
import mmap
from functools import cache, partial
from typing import Any

from headrace.process.cpu import cpu_flags, multiplies_bf16
from workers.engines.packed.layer_choice import Calls, Choose, Kind, Way, by_default

# Weights smaller than this on a side gain nothing: the call itself is the time. Chosen.
SMALLEST_SIDE = 32
# The number of tokens the layout is chosen for; any number may come. Chosen: a usual batch.
EXPECTED_TOKENS = 2048
# Where a linear layer is followed by nothing but its activation: (linear, activation).
# BERT's family, DistilBERT, BART.
FUSED = (("dense", "intermediate_act_fn"), ("lin1", "activation"), ("fc1", "activation_fn"))


def prepack_weights(
    model: Any, flags: frozenset[str] | None = None, choose: Choose = by_default
) -> int:
    """Replace the linear layers of a CPU model in eval mode; returns how many were.

    fp32, and bfloat16 where the CPU multiplies it: elsewhere oneDNN converts at each call. `flags`
    are the CPU's, absent: this machine's. `choose` says how each kind of layer is computed; a layer
    that torch's own product is best for stays.

    In place, one by one, each old weight freed before the next is laid out. The model cannot be
    saved afterwards. Does nothing where torch was built without oneDNN.
    """
    if not _available():
        return 0
    shared = shared_weights(model)
    dtypes = _dtypes(cpu_flags() if flags is None else flags)
    replaced = 0
    for owner in list(model.modules()):
        gelu_for = gelu_behind(owner)
        for name, layer in list(owner.named_children()):
            if not _worth_it(layer, dtypes) or layer.weight.data_ptr() in shared:
                continue
            gelu = name == gelu_for[0]
            way = choose(_kind_of(layer, gelu), partial(_calls, layer, gelu))
            if way == "torch":
                continue
            new = _laid_out(layer, way, gelu)
            if not _agrees(new, layer, gelu):
                continue
            setattr(owner, name, new)
            release_pages(layer.weight)
            if gelu:
                setattr(owner, gelu_for[1], identity())
            replaced += 1
    return replaced


def _available() -> bool:
    import torch

    names = ("_reorder_linear_weight", "_linear_pointwise")
    return bool(torch.backends.mkldnn.is_available()) and all(
        hasattr(torch.ops.mkldnn, name) for name in names
    )


def _dtypes(flags: frozenset[str]) -> set[Any]:
    import torch

    return {torch.float32, *([torch.bfloat16] if multiplies_bf16(flags) else [])}


def shared_weights(model: Any) -> set[int]:
    """Addresses of weights that several modules share: another layout would duplicate them."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            at = parameter.data_ptr()
            (shared if at in seen else seen).add(at)
    return shared


def _worth_it(layer: Any, dtypes: set[Any]) -> bool:
    import torch

    return (
        type(layer) is torch.nn.Linear
        and layer.weight.dtype in dtypes
        and layer.weight.device.type == "cpu"
        and min(layer.weight.shape) >= SMALLEST_SIDE
    )


def gelu_behind(owner: Any) -> tuple[str, str]:
    """Names of linear layers and of the exact GELU that directly follows each, if any."""
    from transformers.activations import ACT2FN

    for linear, activation in FUSED:
        found = getattr(owner, activation, None)
        if type(found) is type(ACT2FN["gelu"]) and hasattr(owner, linear):
            return linear, activation
    return "", ""


def _agrees(new: Any, layer: Any, fused: bool) -> bool:
    import torch

    with torch.inference_mode():
        probe = layer.weight[:8]  # of the right width and about the right size
        expected = layer(probe)
        expected = torch.nn.functional.gelu(expected) if fused else expected
        # bfloat16 has 8 bits, and a separate GELU rounds once more
        near = 1e-4 if probe.dtype is torch.float32 else 2e-2
        return bool(torch.allclose(new(probe), expected, rtol=near, atol=near))


def release_pages(weight: Any) -> None:
    """Release the memory pages of a weight that is no longer read.

    Weights are mapped from the model's file, which stays mapped as long as one tensor (the
    embeddings) is in use, so that prepacked weights would count twice. Only whole pages inside the
    tensor are released; the tensor is dropped next.
    """
    if not hasattr(mmap, "MADV_DONTNEED") or not weight.is_contiguous():
        return
    start = -(-weight.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (weight.data_ptr() + weight.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > start:
        where, size = ctypes.c_void_p(start), ctypes.c_size_t(stop - start)
        ctypes.CDLL(None).madvise(where, size, mmap.MADV_DONTNEED)  # advice: failing is no harm


def identity() -> Any:
    """An identity module, in place of an activation that another module has absorbed."""
    import torch

    return torch.nn.Identity()


def _kind_of(layer: Any, gelu: bool) -> Kind:
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    width_out, width_in = map(int, layer.weight.shape)  # some models say theirs as tensors
    return Kind(width_in, width_out, layer.bias is not None, dtype, gelu)


def _calls(layer: Any, gelu: bool) -> Calls:
    """The ways to compute the layer and its GELU, each on the same synthetic tokens."""
    import torch

    tokens = _kind_of(layer, gelu).tokens
    x = torch.randn(tokens, layer.weight.shape[1], generator=torch.Generator().manual_seed(0))
    x = x.to(layer.weight.dtype)

    def own() -> Any:
        return torch.nn.functional.gelu(layer(x)) if gelu else layer(x)

    ways: dict[Way, Any] = {
        "torch": own,
        "laid_out": partial(_laid_out(layer, "laid_out", gelu), x),
    }
    if gelu:
        ways["fused"] = partial(_laid_out(layer, "fused", gelu), x)
    return {way: torch.inference_mode()(call) for way, call in ways.items()}


def _laid_out(layer: Any, way: Way, gelu: bool) -> Any:
    """The layer, and its GELU, with its weight in oneDNN's layout: `[..., in]` to `[..., out]`."""
    import torch

    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), EXPECTED_TOKENS)
        bias = None if layer.bias is None else layer.bias.detach()
        fused = gelu and way == "fused"
        sizes = layer.in_features, layer.out_features
        return _module_class()(*sizes, weight, bias, fused, gelu and not fused)


@cache
def _module_class() -> Any:
    """Made when first used, because its base is torch's."""
    import torch

    run = torch.ops.mkldnn._linear_pointwise
    gelu_in_place = torch.ops.aten.gelu_

    class LaidOut(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
        def __init__(
            self, width_in: int, width_out: int, weight: Any, bias: Any, fused: bool, then: bool
        ) -> None:
            super().__init__()
            self.in_features, self.out_features = width_in, width_out
            self.weight, self.bias = weight, bias
            # GELU by erf, not by tanh
            self.inside, self.how = ("gelu", "none") if fused else ("none", "")
            self.then = then

        def forward(self, x: Any) -> Any:
            y = run(x, self.weight, self.bias, self.inside, [], self.how)
            return gelu_in_place(y) if self.then else y

    return LaidOut
