"""Resolves a model to a fixed revision, and reads what its files say about it. No torch.

| `--model` | the reference's revision |
| --- | --- |
| a folder on a disk | `sha256:…` over its deciding files (`headrace.tasks.model_digest`) |
| an `s3://` folder | the same digest, taken by reading the deciding objects once, as a stream |
| a hub id, `org/name` | the commit, 40 hex digits |

A worker checks the same digest over the files that it fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from headrace.settings import Settings
from headrace.storage.store import Store
from headrace.storage.uri import is_local_uri
from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.chat_template import check_template
from headrace.tasks.generation.endpoint import check_allowed_address
from producers.models.checks import (
    check_files,
    check_head_weights,
    check_max_length,
    check_pointers,
    check_remote_code,
    check_room,
    check_tokenizer,
    limit_of,
    position_rows,
    read_shapes,
)
from producers.models.info import NO_MODEL, ModelInfo, parse_config
from producers.models.label_names import check_label_names, contradictions
from producers.models.model_files import (
    FolderFiles,
    InnerFiles,
    ModelFiles,
    StoreFiles,
    read_any_json,
    read_json,
)
from producers.models.module_checks import check_modules
from producers.models.needed_weights import check_needed, odd_weights
from producers.models.quantized import check_quantized
from producers.models.safetensors_header import Shapes, count
from producers.models.unused_weights import (
    check_layers,
    check_prefix,
    layers_left_out,
    unmerged_adapters,
)
from producers.models.weight_values import check_values
from schemas.errors import ModelError
from schemas.records.job import ModelRef

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job requires of its model."""

    task: str
    revision: str | None
    max_length: int | None
    allow_pickle: bool
    trust_remote_code: bool
    params: Mapping[str, Any] | None


def resolve_model(
    model: str | None,
    revision: str | None,
    task: str,
    open_store: Callable[[str], Store],
    *,
    max_length: int | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    params: Mapping[str, Any] | None = None,
) -> ModelInfo:
    """The model that the reference names; everything that its files show is checked.

    With the task's `params`, it is also checked that the task supports what the files ask for. For
    a hub model, only what the cache or the hub gives without the weights is checked.

    Raises:
        ModelError: it cannot be found, is not pinned, or its files show that it cannot do the
            task: see `producers.models.checks`.
        MissingExtra: a hub id, and huggingface_hub is not installed.
        StorageError: the store of an `s3://` folder does not answer.
    """
    if model is None:
        if not task_spec(task).needs_model:
            return ModelInfo(NO_MODEL, {})
        raise ModelError(f"{task} needs a model: --model FOLDER, a hub id, or s3://bucket/folder")
    asked = _Asked(task, revision, max_length, allow_pickle, trust_remote_code, params)
    path = Path(model.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _from_folder(path.absolute(), asked)
    if not is_local_uri(model):
        return _from_store(open_store(model), asked)
    looks_local = path.is_absolute() or model.startswith((".", "~", "file://"))
    if looks_local or not HUB_ID.fullmatch(model):
        raise ModelError(f"model {model}: there is no such folder")
    return _from_hub(model, asked)


def model_at(name: str | None, address: str, settings: Settings) -> ModelInfo:
    """The model of that name behind an API; its address is its revision.

    Raises:
        ModelError: no name is given. UriNotAllowed: the address is none of the allowed endpoints.
    """
    if not name:
        raise ModelError("--engine endpoint needs --model: the name by which the API knows it")
    check_allowed_address(address, settings.allowed_endpoints)
    return ModelInfo(ModelRef(uri=name, revision=address.rstrip("/")), {})


def check_head(config: Mapping[str, Any], task: str, model: str) -> None:
    """Check that the model's architecture serves the task, if the model states it.

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


def _from_folder(folder: Path, asked: _Asked) -> ModelInfo:
    found = _from_files(FolderFiles(folder), asked, "is a folder without config.json: not a model")
    return replace(found, folder=folder)


def _from_store(store: Store, asked: _Asked) -> ModelInfo:
    return _from_files(StoreFiles(store), asked, "has no config.json at that place")


def _from_hub(name: str, asked: _Asked) -> ModelInfo:
    from producers.models.hub import from_hub

    found = from_hub(name, asked.revision)
    ref = ModelRef(uri=name, revision=found.commit)
    check_head(found.config, asked.task, name)
    if found.files is None:
        _check_names(found.config, asked.task, name)
        return ModelInfo(ref, found.config)
    inner = _inner(found.files, asked.task)
    check_files(inner, asked.allow_pickle)
    checked = _checked(found.files, found.config, found.shapes, asked)
    if found.folder is not None:  # else the weights would have to be fetched here
        checked = _with_values(checked, inner, asked.task)
    return replace(checked, ref=ref, folder=found.folder)


def _from_files(files: ModelFiles, asked: _Asked, words: str) -> ModelInfo:
    """`words` say what it is without config.json."""
    inner = _inner(files, asked.task)
    if "config.json" not in inner.sizes():
        raise ModelError(f"model {inner.where} {words}")
    with inner.open("config.json") as file:
        config = parse_config(bytes(file.read()), inner.where)
    check_head(config, asked.task, files.where)
    check_pointers(files)
    check_files(inner, asked.allow_pickle)
    shapes = read_shapes(inner)
    found = _with_values(_checked(files, config, shapes, asked), inner, asked.task)
    digest = files.digest()
    _check_revision(asked.revision, digest, files.where)
    return replace(found, ref=ModelRef(uri=files.where, revision=digest))


def _inner(files: ModelFiles, task: str) -> ModelFiles:
    """The files of the transformer itself, if sentence-transformers keeps them in a subfolder."""
    folder = task_spec(task).model_folder(partial(read_any_json, files))
    return InnerFiles(files, folder) if folder else files


def _checked(
    files: ModelFiles,
    config: Mapping[str, Any],
    shapes: Shapes,
    asked: _Asked,
) -> ModelInfo:
    """The model's information from its files, wherever they are."""
    check_remote_code(config, asked.trust_remote_code, files.where)
    positions = position_rows(shapes, config)
    inner = _inner(files, asked.task)
    limit = limit_of(inner, config, positions)
    warnings: tuple[str, ...] = ()
    spec = task_spec(asked.task)
    if spec.engine:
        check_prefix(shapes, files.where)
    if spec.head:
        check_head_weights(shapes, config, asked.task, spec.head, files.where)
    warnings += tuple(_check_names(config, asked.task, files.where))
    read = partial(read_any_json, files)
    if spec.check_files is not None and asked.params is not None:
        asks = spec.check_files(read, asked.params, files.where)
        check_modules(files, asks, asked.allow_pickle, config)
        if spec.generates:
            names, settings = files.sizes().keys(), read_json(files, "tokenizer_config.json")
            check_template(names, settings, asked.params, files.where)
    if spec.engine:  # how a task of another package uses the files is unknown here
        check_max_length(asked.max_length, limit, positions, files.where)
        check_room(asked.max_length, limit, read_json(inner, "tokenizer.json"), files.where)
        warnings += tuple(check_tokenizer(inner, config))
        check_layers(shapes, config, files.where)
        said = [
            *check_quantized(shapes, config, files.where),
            *layers_left_out(shapes, config),
            *unmerged_adapters(shapes),
        ]
        if not (
            asked.trust_remote_code and config.get("auto_map")
        ):  # whose classes are unknown here
            check_needed(shapes, config, spec.head, files.where)
            said += odd_weights(shapes, config)
        warnings += tuple(f"model {files.where}: {words}" for words in said)
    weights = count(shapes)
    return ModelInfo(
        NO_MODEL,  # the caller knows how it is pinned
        config,
        None,
        weights.parameters if weights else None,
        weights.embeddings if weights else 0,
        limit=limit,
        read=read,
        warnings=warnings,
        shapes=shapes,
    )


def _with_values(found: ModelInfo, files: ModelFiles, task: str) -> ModelInfo:
    """The information with what a sample of the numbers shows."""
    spec = task_spec(task)
    if not spec.engine:
        return found
    said = check_values(files, spec.head, files.where)
    warnings = (f"model {files.where}: {words}" for words in said)
    return replace(found, warnings=(*found.warnings, *warnings))


def _check_names(config: Mapping[str, Any], task: str, where: str) -> list[str]:
    """Check the names of labels, of a task that has some; warnings on them."""
    if not (task_spec(task).head or "").endswith("Classification"):
        return []
    check_label_names(config, where)
    return [f"model {where}: {words}" for words in contradictions(config)]


def _check_revision(revision: str | None, digest: str, where: str) -> None:
    if revision is not None and revision != digest:
        raise ModelError(
            f"model {where} is {digest}, and --revision says {revision}; leave --revision out for "
            "a folder, or put back the files that it names"
        )
