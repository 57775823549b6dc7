"""What a hub model's files show is found at submission, and its weights are not fetched for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.storage.store import Store
from producers.models.reference import resolve_model
from schemas.errors import ExitCode, ModelError
from tests.unit.models.local_hub import COMMIT, NAME, local_hub, use
from tests.unit.models.model_folder import SHAPES, write_model
from tests.unit.small_job import write_input

POSITIONS = {**SHAPES, "bert.embeddings.position_embeddings.weight": (128, 10)}


def plan(endpoint: str, home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`headrace plan` with a model of that hub and an empty cache."""
    corpus = write_input(home / "in.parquet", ["good film"])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", "from producers.main import main; main()", "plan", str(corpus),
         "--text-column", "text", "--model", NAME, "--json", *flags],
        env={**environment, "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def no_store(uri: str) -> Store:
    raise AssertionError(f"{uri} was opened")


Edit = Callable[[Path], Any]


def put(name: str, content: Any) -> Edit:
    return lambda folder: (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("asked", "edit", "words"),
    [
        ({}, put("adapter_config.json", {"peft_type": "LORA"}), "holds an adapter"),
        ({}, lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer files"),
        ({}, lambda f: write_model(f, id2label={str(i): str(i) for i in range(3)}), "3 labels"),
        ({"max_length": 129}, lambda f: write_model(f, shapes=POSITIONS), "128 positions"),
        ({}, put("model.safetensors.index.json", {"weight_map": {"a": "b.safetensors"}}), ""),
        (
            {},
            lambda f: (
                put("model.safetensors.index.json", {"weight_map": {"a": "b.safetensors"}})(f),
                (f / "model.safetensors").rename(f / "a.safetensors"),
            ),
            "lacks 1 of 1 files of weights",
        ),
        ({}, lambda f: write_model(f, weights="pickle") and (f / "model.safetensors").unlink(),
         "pickle only"),
    ],
    ids=["adapter", "tokenizer", "labels", "positions", "whole", "shard", "pickle"],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_submission(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    edit: Edit,
    words: str,
) -> None:
    folder = write_model(tmp_path / "model")
    edit(folder)
    with local_hub(folder) as endpoint:
        use(endpoint, tmp_path / "hf", monkeypatch)
        if words:
            with pytest.raises(ModelError, match=words):
                resolve_model(NAME, None, "text-classification", no_store, params={}, **asked)
        else:
            found = resolve_model(NAME, None, "text-classification", no_store, params={}, **asked)
            assert (found.ref.revision, found.parameters) == (COMMIT, 1000)
    assert list((tmp_path / "hf").rglob("config.json"))
    cached = [p.name for p in (tmp_path / "hf").rglob("*") if p.suffix in (".safetensors", ".bin")]
    assert cached == [], "the weights are a worker's to fetch"


def test_a_prompt_of_a_hub_model_is_known_at_submission(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "BertModel")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": p, "type": f"sentence_transformers.models.{k}"} for p, k in kinds]
    put("modules.json", modules)(folder)
    (folder / "1_Pooling").mkdir()
    put("1_Pooling/config.json", {"pooling_mode": "mean"})(folder)
    put("config_sentence_transformers.json", {"prompts": {"query": "query: "}})(folder)
    flags = ("--task", "feature-extraction", "--prompt-name")
    with local_hub(folder) as endpoint:
        known = plan(endpoint, tmp_path, *flags, "query")
        unknown = plan(endpoint, tmp_path, *flags, "passage")
    assert known.returncode == ExitCode.OK, known.stderr
    assert unknown.returncode == ExitCode.CONFIG
    assert "--prompt-name passage: model org/name has query" in unknown.stderr


def test_a_hub_that_lists_nothing_leaves_it_to_the_worker(tmp_path: Path) -> None:
    cache = tmp_path / "hf/hub/models--org--name"
    write_model(cache / "snapshots" / COMMIT, weights="none", vocabulary=None)
    ended = plan("http://127.0.0.1:9", tmp_path, "--revision", COMMIT)
    assert ended.returncode == ExitCode.OK, ended.stderr
