"""A model reference becomes a local folder, and it is the one that was planned."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.storage.store import ObjectInfo
from headrace.tasks.model_digest import folder_digest
from schemas.errors import ModelChanged, ModelError, StorageError
from tests.unit.models.local_hub import local_hub, use
from tests.unit.models.model_folder import write_model
from workers.models.fetch import resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeStore:
    """Objects in a dict; counts what is opened, and fails on demand."""

    def __init__(self, uri: str, objects: dict[str, bytes], fail_on: str | None = None) -> None:
        self.uri = uri
        self.opened: list[str] = []
        self._objects = objects
        self._fail_on = fail_on

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for name in sorted(self._objects):
            yield ObjectInfo(name, len(self._objects[name]), "", 0.0)

    def open(self, name: str) -> Any:
        if name == self._fail_on:
            raise StorageError("the store is gone")
        self.opened.append(name)
        return io.BytesIO(self._objects[name])


FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "1_Pooling/config.json": b'{"pooling_mode": "mean"}',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


def write(root: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def resolve(uri: str, revision: str | None, cache: Path, store: FakeStore | None = None) -> Path:
    return resolve_model(uri, revision, cache=cache, store_of=lambda _: store)  # type: ignore[arg-type,return-value]


def test_a_digest_depends_on_names_and_content_and_on_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    digest = folder_digest(folder)
    assert digest.startswith("sha256:")
    assert len(digest) == 7 + 64
    assert folder_digest(write(tmp_path / "copy")) == digest

    write(folder, {"README.md": b"words", ".git/config.json": b"x", "onnx/model.bin": b"x"})
    os.utime(folder / "config.json", (0, 0))
    assert folder_digest(folder) == digest


@pytest.mark.parametrize(
    "change",
    [
        {"config.json": b"{ }"},
        {"model.safetensors": b"Weights"},
        {"1_Pooling/config.json": b"{}"},
        {"tokenizer.json": b"{}"},
        {"modeling_own.py": b"pass"},
    ],
)
def test_each_deciding_file_changes_the_digest(change: dict[str, bytes], folder: Path) -> None:
    before = folder_digest(folder)
    assert folder_digest(write(folder, change)) != before


def test_a_renamed_file_changes_the_digest(folder: Path) -> None:
    before = folder_digest(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert folder_digest(folder) != before


def test_a_folder_that_is_no_model_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        folder_digest(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        folder_digest(tmp_path / "missing")


def test_a_local_folder_is_itself_and_is_checked(folder: Path, tmp_path: Path) -> None:
    digest = folder_digest(folder)
    assert resolve(str(folder), digest, tmp_path) == folder
    assert resolve(f"file://{folder}", digest, tmp_path) == folder
    write(folder, {"config.json": b'{"changed": 1}'})
    with pytest.raises(ModelChanged, match="submit a new job"):
        resolve(str(folder), digest, tmp_path)


@pytest.mark.parametrize("uri", ["/no/such/folder", "./nothing", "a b", "../x"])
def test_a_path_that_does_not_exist_is_said_to_be_a_folder(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve(uri, None, tmp_path)


@pytest.mark.parametrize("revision", [None, "main", "sha256:00"])
def test_a_hub_model_needs_a_commit(revision: str | None, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a branch moves"):
        resolve("org/name", revision, tmp_path)


def test_a_hub_model_comes_from_the_cache_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = write(tmp_path / "models--org--name" / "snapshots" / COMMIT)
    assert resolve("org/name", COMMIT, tmp_path) == snapshot

    (snapshot / "model.safetensors").unlink()  # only the configuration was read
    with pytest.raises(ModelError, match="no weights"):
        resolve("org/name", COMMIT, tmp_path)


def test_a_cache_with_some_of_a_models_files_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "bpe.codes").write_text("a b 1")
    snapshot = tmp_path / "hf/models--org--name/snapshots" / COMMIT
    write_model(snapshot, vocabulary=None)  # another program read no tokenizer
    with local_hub(folder) as endpoint:
        use(endpoint, tmp_path / "hf", monkeypatch)
        assert resolve("org/name", COMMIT, tmp_path) == snapshot
    assert (snapshot / "tokenizer.json").is_file()
    assert (snapshot / "bpe.codes").is_file()  # in the digest of a folder, so fetched


def test_some_of_a_models_files_are_taken_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("http://127.0.0.1:9", tmp_path / "hf", monkeypatch)
    snapshot = tmp_path / "hf/models--org--name/snapshots" / COMMIT
    write_model(snapshot, vocabulary=None)
    assert resolve("org/name", COMMIT, tmp_path) == snapshot


def test_a_model_in_an_object_store_is_fetched_once(folder: Path, tmp_path: Path) -> None:
    store = FakeStore("s3://bucket/model", FILES)
    digest = folder_digest(folder)
    found = resolve("s3://bucket/model", digest, tmp_path / "cache", store)
    assert folder_digest(found) == digest
    assert resolve("s3://bucket/model", digest, tmp_path / "cache", store) == found
    assert sorted(store.opened) == sorted(FILES)


def test_a_copy_damaged_on_this_disk_is_fetched_again(folder: Path, tmp_path: Path) -> None:
    store = FakeStore("s3://bucket/model", FILES)
    digest = folder_digest(folder)
    found = resolve("s3://bucket/model", digest, tmp_path / "cache", store)
    (found / "config.json").write_bytes(b"")
    assert folder_digest(resolve("s3://bucket/model", digest, tmp_path / "cache", store)) == digest


def test_a_model_that_changed_in_the_store_is_not_the_one_that_was_planned(tmp_path: Path) -> None:
    store = FakeStore("s3://bucket/model", FILES)
    with pytest.raises(ModelChanged):
        resolve("s3://bucket/model", "sha256:" + "0" * 64, tmp_path / "cache", store)
    assert list((tmp_path / "cache").iterdir()) == [], "nothing half-fetched stays"


def test_a_fetch_that_breaks_off_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    broken = FakeStore("s3://bucket/model", FILES, fail_on="model.safetensors")
    with pytest.raises(StorageError):
        resolve("s3://bucket/model", folder_digest(folder), tmp_path / "cache", broken)
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_that_climb_out_of_the_folder_are_left_out(folder: Path, tmp_path: Path) -> None:
    store = FakeStore("s3://bucket/model", FILES | {"../evil.json": b"x", "/abs.json": b"x"})
    found = resolve("s3://bucket/model", folder_digest(folder), tmp_path / "cache", store)
    assert folder_digest(found) == folder_digest(folder)
    assert not (tmp_path / "cache" / "evil.json").exists()


def test_an_empty_place_in_the_store_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing at that place"):
        resolve("s3://bucket/none", None, tmp_path / "cache", FakeStore("s3://bucket/none", {}))
