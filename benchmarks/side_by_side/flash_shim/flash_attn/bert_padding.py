"""Padded rows to rows without padding and back: transformers' own, for those without this package."""

from __future__ import annotations

from transformers.modeling_flash_attention_utils import _pad_input as pad_input
from transformers.modeling_flash_attention_utils import _unpad_input as unpad_input

__all__ = ["pad_input", "unpad_input"]
