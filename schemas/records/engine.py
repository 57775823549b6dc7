"""Names of engines, as records have them."""

PACKED = "packed"
"""headrace's own, on transformers and torch; that of every job whose record names none."""
TRANSFORMERS = "transformers"
"""Generates text with transformers' models, processors and beam search; always there."""
CTRANSLATE2 = "ctranslate2"
"""Generates text with CTranslate2, from a model that it has converted; an extra."""
