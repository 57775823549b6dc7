"""LoRA under `kill -9`: the process of the loop is killed, another goes on to the same weights."""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.records.training import Lora
from tests.unit.tiny_models import save_model
from tests.unit.training.made_rows import MadeHost, made_rows, made_spec

LIMIT_S = 300
HEAVY = (
    "torch", "peft", "transformers.trainer", "transformers.models.bert.modeling_bert",
    "workers.training.token_trainer", "workers.training.loop",
)  # fmt: skip
KILLS = ("checkpoint:1", "checkpoint_files:1", "trained:2")
"""After a commit, while the next is written, and between two."""


def attempt(base: Path, output: Path, number: int, fault: str | None) -> None:
    """Train from the newest checkpoint in this process, and store the weights at the end."""
    import torch
    from safetensors.torch import save_file
    from transformers import set_seed

    from workers.execution.fault_injection import fault_hook
    from workers.training.loop import train
    from workers.training.model.make import load_base

    torch.set_num_threads(1)
    if not base.exists():
        save_model(base, "bert", "MaskedLM", hidden_dropout_prob=0.1)
    spec = made_spec(
        lora=Lora(rank=4, alpha=8), epochs=1, learning_rate=1e-2, evaluations=4, early_stopping=0
    )
    set_seed(spec.seed)
    model, tokenizer = load_base(base, spec)
    hook = fault_hook(fault)
    made = MadeHost(output, f"{number:016x}")
    host = replace(made.host(hook), stop_reason=lambda: hook("trained"))
    done = train(model, made_rows(tokenizer, spec, 60), (0, 0), spec, host)
    save_file(dict(model.state_dict()), output / "weights.safetensors")
    (output / "resumed_from").write_text(str(done.resumed_from))


@pytest.mark.timeout(LIMIT_S)
def test_adapters_that_are_killed_end_with_the_same_weights(tmp_path: Path) -> None:
    forks = multiprocessing.get_context("forkserver")  # torch is imported once
    forks.set_forkserver_preload([*HEAVY])
    base = tmp_path / "base"

    def ended(output: Path, number: int, fault: str | None) -> int | None:
        process = forks.Process(target=attempt, args=(base, output, number, fault))
        process.start()
        process.join(LIMIT_S)
        return process.exitcode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert ended(whole, 0, None) == 0
    for number, step in enumerate(KILLS, 1):
        assert ended(killed, number, f"kill:{step}") == -signal.SIGKILL
    assert ended(killed, 9, None) == 0
    assert int((killed / "resumed_from").read_text()) > 0
    name = "weights.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
