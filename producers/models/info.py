"""Reads a model's configuration: its type, heads, labels and length."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.tasks.length_limit import LengthLimit
from headrace.tasks.sentence_files import ReadJson
from producers.models.safetensors_header import Shapes
from schemas.errors import ModelError
from schemas.records.job import ModelRef

NO_MODEL = ModelRef(uri="none", revision="none")


_MAX_CONFIG_BYTES = 16 << 20  # chosen: the longest list of labels in use is under 1 MB


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that was found, and what is known about it without loading it."""

    ref: ModelRef
    config: Mapping[str, Any]
    folder: Path | None = None
    """Its folder, if it is on this machine."""
    parameters: int | None = None
    embeddings: int = 0
    """Number of parameters in embedding tables, which cost no computation."""
    limit: LengthLimit | None = None
    """The limit of tokens per row that its files state, if any."""
    read: ReadJson | None = None
    """Reads its JSON files; None if they are not on this machine or not needed."""
    warnings: tuple[str, ...] = ()
    shapes: Shapes = field(default_factory=dict)
    """Extents of its weights by name; empty if they cannot be seen here."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes by id; empty if it has none."""
        named = self.config.get("id2label")
        if not isinstance(named, dict):
            return ()
        try:
            return tuple(str(named[key]) for key in sorted(named, key=int))
        except (TypeError, ValueError):
            return ()


def parse_config(data: bytes, where: str) -> Mapping[str, Any]:
    """The object in a config.json.

    Raises:
        ModelError: it is not JSON, not an object, or absurdly large.
    """
    try:
        found = json.loads(data) if len(data) <= _MAX_CONFIG_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model {where}: config.json is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"model {where}: config.json holds no object")
    return found
