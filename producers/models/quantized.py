"""Quantized checkpoints that cannot be read, from config.json and names of weights. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from headrace.tasks.weight_files import SCALE
from schemas.errors import MissingExtra, ModelError

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "aqlm": ("aqlm", "accelerate"), "auto-round": ("auto_round",), "awq": ("gptqmodel", "accelerate"),
    "bitnet": ("accelerate",), "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed_tensors",), "eetq": ("kernels", "accelerate"),
    "fbgemm_fp8": ("accelerate",), "fouroversix": ("fouroversix",), "fp8": ("accelerate",),
    "fp_quant": ("fp_quant",), "gptq": ("optimum", "gptqmodel"), "hqq": ("hqq",),
    "higgs": ("accelerate", "flute"), "metal": ("kernels",), "mxfp4": ("accelerate",),
    "mxfp8": ("accelerate",), "nvfp4": ("kernels",), "quanto": ("optimum.quanto", "accelerate"),
    "quark": ("quark",), "sinq": ("sinq",), "spqr": ("accelerate", "spqr_quant"),
    "torchao": ("torchao",), "vptq": ("accelerate", "vptq"), "gemma": (), "gguf": ("gguf",),
}  # fmt: skip
"""Modules without which transformers 5.23 refuses to load weights of this `quant_method`.

Source: `validate_environment` in its `quantizers`.
"""


def check_quantized(
    names: Iterable[str], config: Mapping[str, Any], where: str, has_module: Any = None
) -> Iterator[str]:
    """A warning about packages that the workers will need, where no model runs on this machine.

    Raises:
        ModelError: weights with scales, and no method that transformers knows: their numbers would
            be taken without the scales.
        MissingExtra: the package that reads them is not installed, where torch is.
    """
    has = has_module or _has
    method = _method(config)
    if method is None or method not in PACKAGES:
        scales = sorted(filter(SCALE.search, names))
        if method is None and not scales:
            return
        said = (
            "no quantization_config" if method is None else f"{method!r}, unknown to transformers"
        )
        raise ModelError(
            f"model {where} has quantized weights{f' ({scales[0]}, …)' if scales else ''}, and its "
            f"config.json says {said}: they cannot be read; take the checkpoint that is not quantized"
        )
    lacking = [name for name in PACKAGES[method] if not has(name)]
    if lacking and has("torch"):
        raise MissingExtra(
            f"model {where} is quantized ({method}), and {', '.join(lacking)} is not installed, which "
            "reads it; install it for every worker, or take the checkpoint that is not quantized"
        )
    if lacking:
        yield f"it is quantized ({method}): workers need {' and '.join(PACKAGES[method])} to load it"


def check_floats(not_floats: Sequence[str], config: Mapping[str, Any], where: str) -> None:
    """Check that weights are floating-point numbers, where no method of quantization is named.

    Raises:
        ModelError: some are not: they would be taken as they are, without a scale.
    """
    if not_floats and _method(config) is None:
        raise ModelError(
            f"model {where} has {len(not_floats)} weights that are no floating-point numbers "
            f"({not_floats[0]}, …), and its config.json has no quantization_config: they would be taken "
            "without a scale; take the checkpoint that is not quantized"
        )


def _method(config: Mapping[str, Any]) -> str | None:
    """The `quant_method` of the model or of its text part; None if it is not quantized."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        found = part.get("quantization_config")
        if isinstance(found, Mapping):
            is_bits = found.get("load_in_8bit") or found.get("load_in_4bit")
            return "bitsandbytes" if is_bits else str(found.get("quant_method"))
    return None


def _has(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:  # a submodule of a package that is not there
        return False
