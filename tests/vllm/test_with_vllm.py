"""The engine `vllm` with a real vLLM (0.32), beside the engine `transformers`: `make test-vllm`."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from schemas.errors import EngineDied, InvalidRow
from tests.unit.generation import engine_runs as ours
from tests.unit.generation.engine_runs import Events, prompts_of, settings
from tests.unit.generation.peaked import CONFIGS, SMALL
from workers.engines.generating.base import Answer, GenerationRequest
from workers.engines.vllm.engine import VllmEngine

pytestmark = pytest.mark.timeout(600)

PYTHON = os.environ.get("HEADRACE_TEST_VLLM", ".venv/vllm/bin/python")
RANDOM = np.random.default_rng(0)
ROWS = [RANDOM.integers(3, 33, int(RANDOM.integers(2, 20))).tolist() for _ in range(60)]
QWEN2 = ("Qwen2Config", SMALL | {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
})  # fmt: skip
"""vLLM's attention on a CPU has heads of 32 numbers at least."""
LLAMA = ("LlamaConfig", QWEN2[1])


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "qwen2", QWEN2)
    monkeypatch.setitem(CONFIGS, "wide-llama", LLAMA)


def vllm(folder: Path, family: str, seed: int = 0, **values: Any) -> VllmEngine:
    """The engine with the model that the other one has saved there."""
    from transformers import AutoConfig, AutoTokenizer

    engine = VllmEngine(str(Path(PYTHON).absolute()))
    engine.load(
        GenerationRequest(
            LoadRequest(str(folder), "cpu", "float32", None, {}, engine="vllm"),
            settings(family, **values), AutoConfig.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder), seed,
        )
    )  # fmt: skip
    return engine


def answered(
    engine: VllmEngine, rows: Sequence[Sequence[int]], budget: int = 1 << 20
) -> list[Answer]:
    found = {it.row: it for it in engine.generate(prompts_of(rows), Events(), budget)}
    assert found.keys() == set(range(len(rows)))
    return [found[at] for at in range(len(rows))]


@pytest.mark.parametrize("family", ["wide-llama", "qwen2"])
@pytest.mark.parametrize(
    "values",
    [{}, {"repetition_penalty": 1.3, "min_new_tokens": 4}, {"stop": ("w3 w5", "w7")}],
    ids=["greedy", "penalty", "stop"],
)
def test_texts_are_those_of_transformers(
    family: str, values: dict[str, Any], tmp_path: Path
) -> None:
    stepwise = ours.loaded(tmp_path / "m", family, **values)
    wanted = ours.run(stepwise, prompts_of(ROWS))
    for at, found in enumerate(answered(vllm(tmp_path / "m", family, **values), ROWS)):
        assert (found.text, found.finish_reason, found.n_generated) == (
            wanted[at].text, wanted[at].finish_reason, wanted[at].n_generated,
        )  # fmt: skip
        assert found.logprob == pytest.approx(wanted[at].logprob, abs=2e-3)


def test_a_sampled_text_is_the_same_beside_others_and_of_its_seed(tmp_path: Path) -> None:
    values = {"do_sample": True, "temperature": 1.5, "top_p": 0.9}
    ours.loaded(tmp_path / "m", "wide-llama")
    engine = vllm(tmp_path / "m", "wide-llama", **values)
    texts = [it.text for it in answered(engine, ROWS)]
    assert [it.text for it in answered(engine, ROWS, budget=1)] == texts
    other = vllm(tmp_path / "m", "wide-llama", seed=1, **values)
    assert [it.text for it in answered(other, ROWS)] != texts


def test_a_prompt_that_is_too_long_is_an_error_alone(tmp_path: Path) -> None:
    ours.loaded(tmp_path / "m", "wide-llama")
    found = answered(vllm(tmp_path / "m", "wide-llama"), [*ROWS, [5] * 70, [5] * 60])
    assert isinstance(found[-2].error, InvalidRow)
    assert "room for" in str(found[-1].error)
    assert [it.row for it in found if it.error is not None] == [60, 61]


@dataclass
class Kills(Events):
    """Ends vLLM's process after some checks."""

    engine: VllmEngine | None = None

    def holding(self, rows: Collection[int]) -> None:
        super().holding(rows)
        if len(self.held) == 2 and self.engine is not None and self.engine._process is not None:
            os.kill(self.engine._process.number, signal.SIGKILL)


def test_a_kill_in_the_middle_loses_no_row_of_the_next_try(tmp_path: Path) -> None:
    wanted = ours.run(ours.loaded(tmp_path / "m", "wide-llama"), prompts_of(ROWS))
    engine = vllm(tmp_path / "m", "wide-llama")
    watch = Kills(engine=engine)
    with pytest.raises(EngineDied, match="signal 9"):
        list(engine.generate(prompts_of(ROWS), watch, 400))
    assert watch.held[-1]
    assert [it.text for it in answered(engine, ROWS)] == [
        wanted[at].text for at in range(len(ROWS))
    ]
