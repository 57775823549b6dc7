"""A model is pinned before anything is queued, and refused when it cannot do the task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.storage.local import LocalStore
from headrace.storage.store import Store
from headrace.tasks.generation.chat_template import check_template
from headrace.tasks.model_digest import folder_digest
from producers.capacity.device_hint import (
    DeviceHint,
    guess_device,
    parse_gpus,
)
from producers.capacity.speed_guess import MAX_TOKENS_PER_S, tokens_per_s
from producers.models.hub import cached_commit
from producers.models.model_files import is_deciding
from producers.models.reference import resolve_model
from schemas.errors import ConfigError, ModelError
from tests.unit.models.model_folder import write_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def no_store(uri: str) -> Store:
    raise AssertionError(f"{uri} was opened")


def resolve(model: Any, task: str = "text-classification", **more: Any) -> Any:
    revision = more.pop("revision", None)
    return resolve_model(None if model is None else str(model), revision, task, no_store, **more)


def test_a_folder_is_pinned_by_its_files(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    info = resolve(folder)
    assert (info.ref.uri, info.ref.revision) == (str(folder), folder_digest(folder))
    assert (info.parameters, info.embeddings) == (1000, 400)
    (folder / "config.json").write_text(
        json.dumps({**info.config, "id2label": {"0": "A", "1": "B"}})
    )
    assert resolve(folder).ref.revision != info.ref.revision


def test_a_relative_folder_is_kept_as_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "org/name")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").ref.uri == str(tmp_path / "org/name")


def test_a_bucket_has_the_digest_that_a_worker_will_find(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    for name in ("onnx/model.json", ".cache/x.json", "README.md", "trainer_state.json", "a/b.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    info = resolve_model("s3://bucket/m", None, "text-classification", lambda _: LocalStore(folder))
    assert info.ref.revision == folder_digest(folder)
    assert info.parameters == 1000


def test_deciding_names_are_those_of_the_folder_digest() -> None:
    assert [n for n in ("config.json", "a/x.py", "onnx/a.json", ".x.json", "a/.b/c.json", "m.md",
                        "x.safetensors", "trainer_state.json") if is_deciding(n)] == [
        "config.json", "a/x.py", "x.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "task", "fits"),
    [
        ("BertForSequenceClassification", "text-classification", True),
        ("BertForTokenClassification", "text-classification", False),
        ("BertModel", "text-classification", False),
        ("BertForTokenClassification", "token-classification", True),
        ("BertModel", "feature-extraction", True),
        ("BertForSequenceClassification", "feature-extraction", True),
        (None, "text-classification", True),
    ],
)
def test_a_model_without_the_head_is_refused(
    tmp_path: Path, architecture: str | None, task: str, fits: bool
) -> None:
    folder = write_model(tmp_path / "m", architecture)
    if fits:
        assert resolve(folder, task).ref.uri == str(folder)
    else:
        with pytest.raises(ModelError, match=f"no head for {task}: it is a {architecture}"):
            resolve(folder, task)


def test_pickle_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", weights="pickle")
    with pytest.raises(ModelError, match="pickle"):
        resolve(folder)
    assert resolve(folder, allow_pickle=True).parameters is None


@pytest.mark.parametrize("config", ["{", "[]", "1", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, config: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"config\.json"):
        resolve(folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.mkdir(), "without config.json"),
        (lambda p: write_model(p, weights="none"), "has no weights"),
        (lambda p: None, "no such folder"),
    ],
)
def test_a_folder_that_is_no_model_says_why(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "m")
    with pytest.raises(ModelError, match=words):
        resolve(tmp_path / "m")


def test_a_folder_that_is_not_the_revision_asked_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    digest = folder_digest(folder)
    assert resolve(folder, revision=digest).ref.revision == digest
    with pytest.raises(ModelError, match="--revision says"):
        resolve(folder, revision="main")


def test_only_the_fake_task_needs_no_model() -> None:
    assert resolve(None, "fake").ref.uri == "none"
    with pytest.raises(ModelError, match="needs a model"):
        resolve(None)


def test_a_branch_is_the_commit_that_the_cache_knows(tmp_path: Path) -> None:
    (tmp_path / "refs/refs/pr").mkdir(parents=True)
    (tmp_path / "refs/main").write_text(COMMIT)
    (tmp_path / "refs/refs/pr/1").write_text(COMMIT)
    (tmp_path / "refs/broken").write_text("not a commit")
    (tmp_path / "secret").write_text(COMMIT)
    assert cached_commit(tmp_path, "main") == COMMIT
    assert cached_commit(tmp_path, "refs/pr/1") == COMMIT
    for name in ("broken", "missing", "../secret"):
        assert cached_commit(tmp_path, name) is None


def test_a_hub_model_in_the_cache_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "models--org--name"
    write_model(cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", COMMIT):
        info = resolve("org/name", revision=revision)
        assert (info.ref.uri, info.ref.revision) == ("org/name", COMMIT)
        assert info.parameters == 1000


def test_a_hub_that_is_out_of_reach_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    def away(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "model_info", away)
    for revision in (None, COMMIT):
        with pytest.raises(ModelError, match=r"could not be asked.*--revision"):
            resolve("org/name", revision=revision)


# -- the device it will run on


def test_gpus_are_read_from_nvidia_smi() -> None:
    text = "NVIDIA H200, 9.0\nTesla T4, 7.5\n[error], [N/A]\n"
    assert parse_gpus(text) == [("NVIDIA H200", 9.0), ("Tesla T4", 7.5)]
    assert guess_device("auto", query=lambda: "NVIDIA H200, 9.0") == DeviceHint(
        "cuda", True, "NVIDIA H200", 1, guess_device("cpu").cores
    )
    assert not guess_device("auto", query=lambda: text).bf16
    assert guess_device("auto", query=lambda: None).kind == "cpu"
    assert guess_device("cpu", query=lambda: text).kind == "cpu"
    assert guess_device("cuda", query=lambda: None).kind == "cuda"


def test_a_guess_of_speed_grows_with_the_device_and_shrinks_with_the_model() -> None:
    cpu, gpu = DeviceHint(cores=2), DeviceHint("cuda", bf16=True)
    small = tokens_per_s(22_000_000, 12_000_000, cpu, True)
    assert 1_000 < small < 20_000
    assert tokens_per_s(110_000_000, 24_000_000, cpu, True) < small
    assert small < tokens_per_s(22_000_000, 12_000_000, gpu, True) <= MAX_TOKENS_PER_S
    assert tokens_per_s(None, 0, cpu, False) > small


CHATS: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"chat": False}, None),
    ({"chat": True}, "has no chat template"),
    ({"system_prompt": "be brief"}, "has no chat template"),
    ({"messages_column": "chat"}, "has no chat template"),
    ({"messages_column": "chat", "chat_template": "{{ messages }}"}, None),
]


@pytest.mark.parametrize(("params", "refused"), CHATS)
@pytest.mark.parametrize("place", ["", "chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_needs_a_template(
    params: dict[str, Any], refused: str | None, place: str, tmp_path: Path
) -> None:
    names = [place, "config.json"]
    settings = {"chat_template": "{{ messages }}"} if place == "tokenizer_config.json" else {}
    if refused is None or place:
        check_template(names, settings, params, "m")
    else:
        with pytest.raises(ConfigError, match=refused):
            check_template(names, settings, params, "m")
