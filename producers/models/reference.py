"""A model as a reference that cannot move, and what its files say about it. No torch.

| `--model` | the reference's revision |
| --- | --- |
| a folder on a disk | `sha256:…` over its deciding files (`headrace.tasks.model_digest`) |
| an `s3://` folder | the same digest, taken by reading the deciding objects once, as a stream |
| a hub id, `org/name` | the commit, 40 hex digits |

A worker checks the same digest over the files that it fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.storage.store import Store
from headrace.storage.uri import is_local_uri
from headrace.tasks.catalog import task_spec
from headrace.tasks.model_digest import (
    BLOCK_BYTES,
    DECIDING_SUFFIXES,
    IGNORED_FOLDERS,
    IGNORED_NAMES,
    folder_digest,
)
from producers.models.info import NO_MODEL, ModelInfo, parse_config
from producers.models.safetensors_header import read_weights, store_weights
from schemas.errors import ModelError
from schemas.records.job import ModelRef

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve_model(
    model: str | None,
    revision: str | None,
    task: str,
    open_store: Callable[[str], Store],
    *,
    allow_pickle: bool = False,
) -> ModelInfo:
    """The model that a person means.

    Raises:
        ModelError: it cannot be found, is not pinned, has no weights that may be loaded, or no
            head for the task.
        MissingExtra: a hub id, and huggingface_hub is not installed.
        StorageError: the store of an `s3://` folder does not answer.
    """
    if model is None:
        if not task_spec(task).needs_model:
            return ModelInfo(NO_MODEL, {})
        raise ModelError(f"{task} needs a model: --model FOLDER, a hub id, or s3://bucket/folder")
    info = _find(model, revision, open_store, allow_pickle)
    check_head(info.config, task, model)
    return info


def _find(
    model: str, revision: str | None, open_store: Callable[[str], Store], allow_pickle: bool
) -> ModelInfo:
    path = Path(model.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _from_folder(path.absolute(), revision, allow_pickle)
    if not is_local_uri(model):
        return _from_store(open_store(model), revision, allow_pickle)
    looks_local = path.is_absolute() or model.startswith((".", "~", "file://"))
    if looks_local or not HUB_ID.fullmatch(model):
        raise ModelError(f"model {model}: there is no such folder")
    from producers.models.hub import from_hub

    return from_hub(model, revision)


def check_head(config: Mapping[str, Any], task: str, model: str) -> None:
    """Nothing, when the model's architecture serves the task, or does not say what it is.

    Raises:
        ModelError: its head is for something else.
    """
    suffix = task_spec(task).head
    names = config.get("architectures") or []
    if suffix and names and not any(str(name).endswith(suffix) for name in names):
        raise ModelError(
            f"model {model} has no head for {task}: it is a {', '.join(map(str, names))}, and "
            f"{task} needs one that ends with {suffix}"
        )


# -- a folder on a disk


def _from_folder(folder: Path, revision: str | None, allow_pickle: bool) -> ModelInfo:
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(f"model {folder} is a folder without config.json: not a model")
    config = parse_config(config_file.read_bytes(), str(folder))
    names = [p.name for p in folder.iterdir() if p.is_file()]
    _check_weights(names, str(folder), allow_pickle)
    digest = folder_digest(folder)
    _check_revision(revision, digest, str(folder))
    weights = read_weights(folder)
    return ModelInfo(
        ModelRef(uri=str(folder), revision=digest),
        config,
        folder,
        weights.parameters if weights else None,
        weights.embeddings if weights else 0,
    )


def _check_weights(names: list[str], where: str, allow_pickle: bool) -> None:
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.endswith(".bin") for name in names):
        if allow_pickle:
            return
        raise ModelError(
            f"model {where} has its weights as pickle only, which can run code: convert them to "
            "safetensors, or set --allow-pickle where you trust it"
        )
    raise ModelError(f"model {where} has no weights: no *.safetensors beside config.json")


def _check_revision(revision: str | None, digest: str, where: str) -> None:
    if revision is not None and revision != digest:
        raise ModelError(
            f"model {where} is {digest}, and --revision says {revision}; leave --revision out for "
            "a folder, or put back the files that it names"
        )


# -- an object store


def _from_store(store: Store, revision: str | None, allow_pickle: bool) -> ModelInfo:
    names = sorted(info.name for info in store.list() if is_deciding(info.name))
    data = store.read("config.json") if "config.json" in names else None
    if data is None:
        raise ModelError(f"model {store.uri}: no config.json at that place")
    config = parse_config(data, store.uri)
    top = [name for name in names if "/" not in name]
    _check_weights(top, store.uri, allow_pickle)
    digest = store_digest(store, names)
    _check_revision(revision, digest, store.uri)
    weights = store_weights(store, [name for name in top if name.endswith(".safetensors")])
    return ModelInfo(
        ModelRef(uri=store.uri, revision=digest),
        config,
        None,
        weights.parameters if weights else None,
        weights.embeddings if weights else 0,
    )


def is_deciding(name: str) -> bool:
    """Whether `folder_digest` would take a file of this name."""
    *folders, file = name.split("/")
    if file.startswith(".") or any(f.startswith(".") or f in IGNORED_FOLDERS for f in folders):
        return False
    return Path(file).suffix in DECIDING_SUFFIXES and file not in IGNORED_NAMES


def store_digest(store: Store, names: list[str]) -> str:
    """What `folder_digest` gives for a folder with these objects as its files."""
    whole = hashlib.sha256()
    for name in sorted(names):
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0")
        digest = hashlib.sha256()
        for block in _blocks(store, name):
            digest.update(block)
        whole.update(digest.digest())
    return f"sha256:{whole.hexdigest()}"


def _blocks(store: Store, name: str) -> Iterator[bytes]:
    with store.open(name) as file:
        while block := bytes(file.read(8 * BLOCK_BYTES)):
            yield block
