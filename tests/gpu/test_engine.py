"""The engine on a real GPU: right answers, no waiting inside a batch, and what happens when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.tasks.contract import LoadRequest
from tests.unit.tiny_models import CONFIGS, TEXTS, TinyModels
from workers.batching.budget_cache import BudgetCache
from workers.batching.packing import Budget
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification

GPU = "cuda:0"
PACKED = sorted(set(CONFIGS) - {"deberta-v2", "mpnet"})
HALF = [t for t in TEXTS if t.strip()]


class Free:
    """Control and observation that say nothing."""

    def check(self) -> None: ...
    def forwarding(self, rows: Any) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...


def observe(stage: str, **counters: float) -> Any:
    from contextlib import nullcontext

    return nullcontext()


def load(path: str, dtype: str, device: str = GPU, kind: Any = FeatureExtraction) -> Any:
    task = kind()
    task.load(LoadRequest(path, device, dtype, 512, {}))
    return task


def vectors(task: Any, texts: list[str], budget: int, in_flight: int = 2) -> np.ndarray:
    encoded = task.encode(texts)
    engine = LoadedTask(task, Budget(budget), task.padded, GPU, in_flight=in_flight)
    found = score(encoded, np.arange(len(texts)), engine, Free(), observe, ChunkStats())
    assert not found.faults
    return np.array(found.values.column(0).to_pylist(), dtype=np.float32)


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_vectors_are_those_of_fp32_row_by_row(family: str, dtype: str, tiny: TinyModels) -> None:
    path = tiny(family, "")
    exact = load(path, "float32", "cpu")
    expected = np.concatenate([exact.forward(exact.encode([t])) for t in TEXTS])
    task = load(path, dtype)
    assert task.engine.runner.mode == ("packed" if family in PACKED else "padded")
    found = vectors(task, TEXTS, budget=900)
    cosine = (
        (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    )
    least = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.98}[dtype]
    assert cosine.min() > least


@pytest.mark.parametrize("family", PACKED)
def test_nothing_waits_for_the_gpu_before_the_result_is_asked_for(
    family: str, tiny: TinyModels
) -> None:
    task = load(
        tiny(family, "SequenceClassification", num_labels=3), "bfloat16", kind=TextClassification
    )
    encoded = task.encode(HALF)
    batch = encoded.take(np.argsort(-encoded.lengths, kind="stable"))
    expected = task.forward(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        wait = task.launch(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.array_equal(wait(), expected)


@pytest.mark.parametrize("width", [312, 384, 768, 1024])
def test_one_kernel_adds_and_normalizes(width: int) -> None:
    from workers.engines.packed.triton_kernels import add_norm

    one, two = (torch.randn(1001, width, device=GPU, dtype=torch.bfloat16) for _ in "ab")
    norm = torch.nn.LayerNorm(width, eps=1e-12, device=GPU, dtype=torch.bfloat16)
    torch.nn.init.normal_(norm.weight)
    exact = torch.nn.functional.layer_norm(
        one.double() + two.double(), (width,), norm.weight.double(), norm.bias.double(), 1e-12
    )
    found = add_norm(one, two, norm.weight, norm.bias, norm.eps)
    assert (found.double() - exact).norm() / exact.norm() < 4e-3


def test_a_full_gpu_halves_the_budget_and_loses_no_row(tiny: TinyModels) -> None:
    path = tiny("bert", "", hidden_size=512, intermediate_size=16_384, num_attention_heads=8)
    task = load(path, "bfloat16")
    texts = [f"{t} {n}" for n in range(300) for t in TEXTS]
    right = vectors(task, texts, budget=8_192)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (1 << 30)) / total)
    halved: list[Budget] = []
    engine = LoadedTask(task, Budget(1 << 18), False, GPU, on_halved=halved.append, in_flight=2)
    stats = ChunkStats()
    try:
        found = score(task.encode(texts), np.arange(len(texts)), engine, Free(), observe, stats)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not found.faults
    assert stats.oom_halvings > 0
    assert halved[-1].tokens < 1 << 18
    values = np.array(found.values.column(0).to_pylist(), dtype=np.float32)
    assert np.abs(values - right).max() < 0.1 * np.abs(right).max()


LOST = """
import sys, numpy as np
from headrace.tasks.contract import Encodings, LoadRequest
from workers.tasks.feature_extraction import FeatureExtraction
task = FeatureExtraction()
task.load(LoadRequest(sys.argv[1], "cuda:0", "bfloat16", 512, {}))
good = task.encode(["the weather is fine"])
task.forward(good)
try:
    ids = np.full(4, 10**6, np.int32)
    task.forward(Encodings(ids, np.array([0, 4]), np.zeros(1, bool)))
except Exception as error:
    print(type(error).__name__, task.is_out_of_memory(error), task.is_device_lost(error))
"""


def test_an_index_out_of_range_loses_the_device_for_the_process(tiny: TinyModels) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST, tiny("bert", "")], capture_output=True, text=True
    )
    assert done.stdout.split()[1:] == ["False", "True"], done.stderr[-2000:]


def test_an_ordinary_error_does_not(tiny: TinyModels) -> None:
    assert not load(tiny("bert", ""), "bfloat16").is_device_lost(ValueError("no"))


def test_the_search_for_a_budget_ends_and_is_remembered(tiny: TinyModels, tmp_path: Path) -> None:
    path = tiny("bert", "", hidden_size=512, intermediate_size=2_048, num_attention_heads=8)
    task = load(path, "bfloat16")
    found = BudgetCache(task, GPU, {"model": "x"}, tmp_path).start(None)
    assert found.tokens >= 4_096
    again = BudgetCache(task, GPU, {"model": "x"}, tmp_path).start(None)
    assert again == found
