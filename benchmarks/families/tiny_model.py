"""The folder of a family's tiny model: configuration, random weights and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from benchmarks.families.tiny_configs import tiny_config
from benchmarks.families.tiny_tokenizers import tokenizer_of

AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "feature-extraction": "AutoModel",
}
LABELS = 5
# Weights of the usual size give numbers that hardly depend on the text, and hide what is wrong.
SPREAD = 0.2


@dataclass(frozen=True, slots=True)
class TinyModel:
    """What was made."""

    folder: Path
    own_tokenizer: bool


class NotMade(Exception):
    """The family has no model of text alone, or one that cannot be made here; says why."""


def make(model_type: str, task: str, folder: Path, **changes: Any) -> TinyModel:
    """A model of the family with the head of the task; `changes` go into its configuration.

    Raises:
        NotMade: see there.
    """
    import torch
    import transformers

    tokenizer, own = tokenizer_of(model_type, folder / "made-of")
    torch.manual_seed(7)
    try:
        config = tiny_config(model_type, _of_tokenizer(model_type, tokenizer) | changes)
        if task != "feature-extraction":
            config.num_labels = LABELS
        model = getattr(transformers, AUTO[task]).from_config(config).eval()
    except Exception as error:
        # as many classes as there are families
        raise NotMade(f"{type(error).__name__}: {str(error).strip()[:200]}") from error
    if "input_ids" not in signature(model.forward).parameters:
        raise NotMade(f"takes {model.main_input_name}, not text")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "A_log" not in name and 0 < float(weight.std()) < SPREAD:
                weight.mul_(SPREAD / float(weight.std()))
    try:
        model.save_pretrained(folder)
    except TypeError as error:  # a configuration that holds tensors
        raise NotMade(f"cannot be saved: {error}") from error
    tokenizer.save_pretrained(folder)
    return TinyModel(folder, own)


def _of_tokenizer(model_type: str, tokenizer: Any) -> dict[str, Any]:
    """The vocabulary's size and the special tokens, as a checkpoint's configuration has them."""
    found: dict[str, Any] = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
        for name in ("pad", "bos", "eos", "sep")
        if getattr(tokenizer, f"{name}_token_id", None) is not None
    }
    if len(tokenizer) < 1_000_000:  # Canine's letters are hashed
        # XLM and FlauBERT call it otherwise
        found |= {"vocab_size": len(tokenizer), "n_words": len(tokenizer)}
    return found
