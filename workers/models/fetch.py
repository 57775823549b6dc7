"""Fetches a model to a local folder: from a folder, from the hub, from an object store.

The job's record has the reference with a revision, which is checked here each time a worker loads:
`sha256:…` (see `headrace.tasks.model_digest`) or a commit of the hub.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from headrace.settings import Settings, cache_folder
from headrace.storage.store import Store
from headrace.storage.uri import is_local_uri
from headrace.tasks.model_digest import DECIDING_SUFFIXES, folder_digest
from headrace.tasks.weight_files import is_whole
from schemas.errors import MissingExtra, ModelChanged, ModelError

StoreOf = Callable[[str], Store]
"""Opens the store at a URI, e.g. `s3://bucket/models/minilm`."""

TIMEOUT_S = 10.0  # chosen: as `submit` waits for the hub
DIGEST_PREFIX = "sha256:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
# What a worker reads. Weights for other frameworks are many times the size of these.
# what the digest of a folder is made of; pickled weights and code only where they are allowed
HUB_FILES = tuple(f"*{suffix}" for suffix in sorted(DECIDING_SUFFIXES - {".bin", ".py"}))
OTHER_FRAMEWORKS = ("onnx/*", "openvino/*", "coreml/*")


def resolve_model(
    uri: str,
    revision: str | None,
    *,
    cache: Path,
    store_of: StoreOf,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Path:
    """The local folder of a model, the one that `revision` names.

    A revision of None is not checked; the hub refuses it. `cache` holds what came from an object
    store; the hub keeps its own cache. Several workers may resolve one model at once.

    Raises:
        ModelError: there is no such model, or it cannot be fetched.
        ModelChanged: the folder's digest is not the revision.
        MissingExtra: a hub id, and huggingface_hub is not installed.
    """
    local = Path(uri.removeprefix("file://"))
    if local.is_dir():
        return _checked(local, revision, uri)
    if not is_local_uri(uri):
        return _from_store(uri, revision, cache, store_of)
    if local.is_absolute() or uri.startswith((".", "~", "file://")) or not HUB_ID.fullmatch(uri):
        raise ModelError(f"model {uri}: there is no such folder")
    patterns = [*HUB_FILES, *(["*.bin"] if allow_pickle else [])]
    return _from_hub(uri, revision, [*patterns, *(["*.py"] if trust_remote_code else [])])


def local_model(
    uri: str,
    revision: str | None,
    settings: Settings,
    store_of: StoreOf,
    *,
    allow_pickle: bool,
    trust_remote_code: bool,
) -> Path:
    """`resolve_model` with the cache that the settings name, or the user's own."""
    return resolve_model(
        uri,
        revision,
        cache=Path(settings.model_cache) if settings.model_cache else cache_folder() / "models",
        store_of=store_of,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )


def _checked(folder: Path, revision: str | None, uri: str) -> Path:
    if revision is None:
        return folder
    if not revision.startswith(DIGEST_PREFIX):
        raise ModelError(f"model {uri} is a folder: its revision is sha256:…, not {revision!r}")
    found = folder_digest(folder)
    if found != revision:
        raise ModelChanged(
            f"model {uri} is not the one that was planned: its files are {found}, the job says "
            f"{revision}; put the old files back, or submit a new job"
        )
    return folder


# -- the hub


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    if revision is None or not COMMIT.fullmatch(revision):
        raise ModelError(
            f"model {name}: a hub model needs its commit (40 hex digits) as revision, and not "
            f"{revision!r}: a branch moves"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra(
            f"model {name} is on the hub, and huggingface_hub is not installed: "
            "pip install 'headrace[cpu]'"
        ) from error

    def snapshot(offline: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=list(OTHER_FRAMEWORKS),
                local_files_only=offline,
            )
        )

    try:
        # a commit never changes: what the cache has needs no network
        cached = snapshot(offline=True)
        if is_whole(files_in(cached)):
            return cached
        # another program kept fewer files: they may be enough where no more can be had
        if _has_weights(cached) and not _answers(name, revision):
            return cached
    except LocalEntryNotFoundError:
        pass
    try:
        fetched = snapshot(offline=False)
    except Exception as error:
        # the hub's client raises its own, requests' and the operating system's errors
        raise ModelError(
            f"model {name} at {revision} is not in the hub's cache on this machine, and could not "
            f"be fetched: {type(error).__name__}: {error}"
        ) from error
    if not _has_weights(fetched):  # without a network the client gives back what it has
        raise ModelError(
            f"model {name} at {revision} has no weights that may be loaded, neither in the cache "
            "on this machine nor on the hub; pickled ones need --allow-pickle"
        )
    return fetched


def _answers(name: str, revision: str) -> bool:
    """Whether the hub can be asked for the model; a download would try for 20 s to find out."""
    from huggingface_hub import model_info

    try:
        model_info(name, revision=revision, timeout=TIMEOUT_S)
    except Exception:  # its own errors, its transport's and the operating system's
        return False
    return True


def files_in(folder: Path) -> dict[str, Path]:
    """All files below the folder, by their names in it."""
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def _has_weights(folder: Path) -> bool:
    return any(path.suffix in (".safetensors", ".bin") for path in folder.rglob("*"))


# -- an object store


def _from_store(uri: str, revision: str | None, cache: Path, store_of: StoreOf) -> Path:
    """Fetched once, to a folder whose name appears when all of it is there."""
    name = hashlib.sha256(f"{uri}\n{revision}".encode()).hexdigest()[:32]
    folder = cache / name
    if folder.is_dir():
        try:
            return _checked(folder, revision, uri)
        except ModelChanged:
            shutil.rmtree(folder, ignore_errors=True)  # damaged on this disk: fetch it again
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    try:
        _copy(store_of(uri), scratch, uri)
        _checked(scratch, revision, uri)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():  # else a worker beside us was faster, with the same files
                raise
        return folder
    except OSError as error:
        raise ModelError(f"model {uri} cannot be kept in {cache}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy(store: Store, folder: Path, uri: str) -> None:
    found = False
    for info in store.list():
        parts = PurePosixPath(info.name).parts
        if ".." in parts or os.path.isabs(info.name) or info.name.endswith("/"):
            continue  # a folder's marker, or a name that would leave the folder
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with store.open(info.name) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        found = True
    if not found:
        raise ModelError(f"model {uri}: there is nothing at that place")
