"""Weights laid out for the CPU give the same answers, and the old ones are let go."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from headrace.process.cpu import cpu_flags, multiplies_bf16, number_formats
from workers.devices.device import ONEDNN_ENVIRONMENT, worker_environment
from workers.engines.packed.linear import prepack_weights


@pytest.fixture
def bert() -> Any:
    import transformers

    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=50, num_hidden_layers=2, **size)
    return transformers.BertModel(config).eval()


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_answers_stay_for_any_number_of_tokens(bert: Any, tokens: int) -> None:
    import torch

    ids = torch.arange(tokens).remainder(50).unsqueeze(0)
    with torch.inference_mode():
        before = bert(ids).last_hidden_state
        assert prepack_weights(bert) == 2 * 6 + 1  # six in a layer, and the pooler
        after = bert(ids).last_hidden_state
    assert float((after - before).abs().max()) < 1e-5


def test_the_activation_is_inside_the_product(bert: Any) -> None:
    import torch

    prepack_weights(bert)
    assert isinstance(bert.encoder.layer[0].intermediate.intermediate_act_fn, torch.nn.Identity)


def test_old_weights_are_freed(bert: Any) -> None:
    old = weakref.ref(bert.encoder.layer[0].intermediate.dense)
    prepack_weights(bert)
    gc.collect()
    assert old() is None


def test_weights_that_two_modules_share_stay(bert: Any) -> None:
    query = bert.encoder.layer[0].attention.self.query
    bert.encoder.layer[1].attention.self.query.weight = query.weight
    assert prepack_weights(bert) == 2 * 6 + 1 - 2


@pytest.mark.skipif(
    not multiplies_bf16(cpu_flags()), reason=f"bfloat16: {number_formats()['bfloat16']}"
)
def test_bfloat16_is_laid_out_where_the_cpu_multiplies_it(bert: Any) -> None:
    import torch

    ids = torch.arange(40).unsqueeze(0)
    with torch.inference_mode():
        exact = bert(ids).last_hidden_state
        assert prepack_weights(bert.to(torch.bfloat16)) == 2 * 6 + 1
        after = bert(ids).last_hidden_state.float()
    assert float((after - exact).abs().max()) < 0.1


def test_bfloat16_stays_where_the_cpu_does_not_multiply_it(bert: Any) -> None:
    import torch

    assert prepack_weights(bert.to(torch.bfloat16), frozenset({"avx2", "avx512f"})) == 0


def test_a_layer_that_says_its_sizes_as_tensors_is_laid_out_too() -> None:
    import json
    from dataclasses import asdict

    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, 64)).eval()
    model[0].in_features, model[0].out_features = torch.tensor(64), torch.tensor(64)
    kinds: list[str] = []
    prepack_weights(model, choose=lambda kind, _: kinds.append(json.dumps(asdict(kind))) or "torch")  # type: ignore[func-returns-value]
    assert len(kinds) == 1


def test_float16_stays(bert: Any) -> None:
    import torch

    assert prepack_weights(bert.to(torch.float16)) == 0


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_weights_mapped_from_a_file_do_not_stay_in_memory_twice(tmp_path: Path) -> None:
    import transformers

    size = {"hidden_size": 256, "num_attention_heads": 2, "intermediate_size": 1024}
    config = transformers.BertConfig(vocab_size=50, num_hidden_layers=2, **size)
    transformers.BertModel(config).save_pretrained(tmp_path)
    model = transformers.BertModel.from_pretrained(tmp_path).eval()
    weights = sum(
        float(p.detach().sum() * 0) + p.nbytes for p in model.parameters()
    )  # all are touched
    before = _mapped_bytes(tmp_path)
    assert before > 0.9 * weights
    prepack_weights(model)
    assert _mapped_bytes(tmp_path) < 0.3 * weights  # embeddings and norms are still in use


def _mapped_bytes(folder: Path) -> int:
    """What of the folder's files is mapped and in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


GROWTH = """
import torch
from workers.engines.packed.linear import prepack_weights
def resident_mb():
    with open("/proc/self/statm") as file: return int(file.read().split()[1]) / 256
model = torch.nn.Sequential(torch.nn.Linear(1536, 384)).eval()
assert prepack_weights(model) == 1
with torch.inference_mode():
    for tokens in range(2000, 2012): model(torch.ones(tokens, 1536))
    before = resident_mb()
    for tokens in range(2012, 2052): model(torch.ones(tokens, 1536))
print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_batches_of_ever_new_sizes_hold_no_more_memory() -> None:
    assert ONEDNN_ENVIRONMENT.items() <= worker_environment("cpu", 1).items()
    env = os.environ | ONEDNN_ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], env=env, capture_output=True, text=True, check=True
    )
    # over 100 MB where the caches of torch and oneDNN keep all 40 sizes
    assert float(done.stdout) < 50
