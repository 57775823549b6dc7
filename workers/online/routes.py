"""Which task is answered where. It imports nothing, for the command's own checks."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "text-classification": "/v1/classify",
    "feature-extraction": "/v1/embeddings",
    "token-classification": "/v1/ner",
}
