"""LoRA under `kill -9`, with its output in S3: the process of the loop is killed, another goes on
to the same weights."""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.settings import load_settings
from headrace.storage.open import open_store
from schemas.names import output_layout
from schemas.records.training import Lora
from tests.unit.tiny_models import save_model
from tests.unit.training.made_rows import MadeHost, made_rows, made_spec

LIMIT_S = 300
HEAVY = (
    "torch", "peft", "boto3", "transformers.trainer", "transformers.models.bert.modeling_bert",
    "workers.training.token_trainer", "workers.training.loop",
)  # fmt: skip
KILLS = ("checkpoint:1", "checkpoint_files:1", "trained:2")
"""After a commit, while the next is written, and between two."""


def attempt(base: Path, output: str, endpoint: str, scratch: Path, fault: str | None) -> None:
    """Train from the newest checkpoint in this process, and keep the weights in the scratch folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import set_seed

    from workers.execution.fault_injection import fault_hook
    from workers.training.checkpoints import CheckpointBook
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
    made = MadeHost(scratch, f"{len(list(scratch.glob('*'))):016x}")
    store = open_store(output, load_settings(s3_endpoint_url=endpoint, s3_path_style=True))
    book = CheckpointBook(store, made.attempt, hook)
    host = replace(made.host(), book=book, stop_reason=lambda: hook("trained"))
    done = train(model, made_rows(tokenizer, spec, 60), (0, 0), spec, host)
    save_file(dict(model.state_dict()), scratch / "weights.safetensors")
    (scratch / "resumed_from").write_text(str(done.resumed_from))


@pytest.mark.timeout(LIMIT_S)
def test_adapters_that_are_killed_end_with_the_same_weights(
    tmp_path: Path, s3_server: Any, s3_bucket: str
) -> None:
    forks = multiprocessing.get_context("forkserver")  # torch is imported once
    forks.set_forkserver_preload([*HEAVY])
    whole, killed, base = (tmp_path / name for name in ("whole", "killed", "base"))
    bucket = f"s3://{s3_bucket}/run"

    def ended(output: str, scratch: Path, fault: str | None) -> int | None:
        words = (base, output, s3_server.endpoint, scratch, fault)
        process = forks.Process(target=attempt, args=words)
        process.start()
        process.join(LIMIT_S)
        return process.exitcode

    assert ended(str(tmp_path / "run"), whole, None) == 0
    for step in KILLS:
        assert ended(bucket, killed, f"kill:{step}") == -signal.SIGKILL
    assert ended(bucket, killed, None) == 0
    assert int((killed / "resumed_from").read_text()) > 0
    name = "weights.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    store = open_store(bucket, load_settings(s3_endpoint_url=s3_server.endpoint))
    assert any(info.name.endswith(".json") for info in store.list(output_layout.CHECKPOINTS))
