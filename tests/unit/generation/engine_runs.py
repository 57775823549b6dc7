"""Runs an engine over prompts of token ids, and `generate` one prompt after another beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import Stopped
from tests.unit.generation.peaked import peaked, save_peaked
from workers.engines.generating.base import Answer, GenerationRequest, Prompt
from workers.engines.stepwise.engine import StepwiseEngine

ENDS = [1, 11, 12, 13]
"""Token ids that end an answer: several, so that answers have many lengths."""


@dataclass
class Events:
    """A watch that keeps what it hears, and stops after some checks on demand."""

    stop_after: int | None = None
    checks: int = 0
    held: list[frozenset[int]] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    firsts: list[tuple[int, float]] = field(default_factory=list)

    def check(self) -> None:
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise Stopped("drain")

    def holding(self, rows: Collection[int]) -> None:
        self.held.append(frozenset(rows))

    def stepped(self, *, rows: int, tokens: int) -> None:
        self.widths.append(rows)

    def first_tokens(self, rows: int, seconds: float) -> None:
        self.firsts.append((rows, seconds))

    def out_of_memory(self, tokens: int) -> None:
        self.full.append(tokens)


def settings(family: str, **values: Any) -> GenerationSettings:
    config = peaked(family).config
    found = {"max_new_tokens": 16, "eos_token_id": ENDS, "pad_token_id": 0, **values}
    if config.is_encoder_decoder:
        found["decoder_start_token_id"] = config.decoder_start_token_id
    stop = found.pop("stop", ())
    return GenerationSettings(found, {}, config.is_encoder_decoder, stop=stop)


def loaded(folder: Path, family: str, seed: int = 0, **values: Any) -> StepwiseEngine:
    """The engine with the tiny model of that family, saved to the folder first."""
    from transformers import AutoConfig, AutoTokenizer

    save_peaked(folder, family)
    load = LoadRequest(str(folder), "cpu", "float32", None, {}, engine="transformers")
    engine = StepwiseEngine()
    engine.load(
        GenerationRequest(
            load, settings(family, **values), AutoConfig.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder), seed,
        )
    )  # fmt: skip
    return engine


def prompts_of(rows: Sequence[Sequence[int]], most: int = 16) -> list[Prompt]:
    return [
        Prompt(at, np.array(ids, dtype=np.int32), "", bytes([at % 256]) * 16, most)
        for at, ids in enumerate(rows)
    ]


def run(
    engine: StepwiseEngine, prompts: Sequence[Prompt], budget: int = 1 << 20, rows: int = 64,
    watch: Events | None = None,
) -> dict[int, Answer]:  # fmt: skip
    engine._most_rows = rows
    answers = list(engine.generate(prompts, watch or Events(), budget))
    found = {answer.row: answer for answer in answers}
    assert len(found) == len(answers) == len(prompts)
    return found


def expected(engine: StepwiseEngine, ids: Sequence[int], **values: Any) -> str:
    """What `generate` makes of this prompt alone."""
    import torch

    given = torch.tensor([list(ids)])
    asked = {"max_new_tokens": 16, **values}
    out = engine.model.generate(given, attention_mask=torch.ones_like(given), **asked)[0]
    new = out[1:] if engine.model.config.is_encoder_decoder else out[len(ids) :]
    return str(engine._ending.tokenizer.decode(new, skip_special_tokens=True))
