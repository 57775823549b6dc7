"""A hub id pinned to a commit: from the hub's cache on this machine, else from the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.tasks.weight_files import is_whole
from producers.models.checks import read_shapes
from producers.models.info import parse_config
from producers.models.model_files import FolderFiles, ModelFiles, is_deciding
from producers.models.safetensors_header import Shapes
from schemas.errors import MissingExtra, ModelError

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S = 10.0
"""Chosen: a person waits for `submit`; a hub that does not answer by then is not reachable."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub at a commit, and what can be read of it without its weights."""

    commit: str
    config: Mapping[str, Any]
    folder: Path | None
    """Its folder on this machine, if all files are in the cache."""
    files: ModelFiles | None
    """None if only config.json can be read from the cache or the hub."""
    shapes: Shapes


def from_hub(name: str, revision: str | None) -> HubModel:
    """The model at its commit.

    A commit is used as it is. A branch or tag (default `main`) is resolved to the commit in this
    machine's cache, else to the commit that the hub names.

    Raises:
        ModelError: no such model or revision, or the hub is not reachable; with what to do.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise MissingExtra(
            f"model {name} is no folder here; for a hub id install huggingface_hub: "
            "pip install 'headrace[model]'"
        ) from error
    cache = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    commit = revision if revision and COMMIT.fullmatch(revision) else None
    commit = commit or cached_commit(cache, revision or "main") or _ask(name, revision)
    snapshot = cache / "snapshots" / commit
    config = _config(name, commit, snapshot)
    if snapshot.is_dir() and is_whole(_files_in(snapshot)):
        cached = FolderFiles(snapshot, name)
        return HubModel(commit, config, snapshot, cached, read_shapes(cached))
    files = _listed(name, commit)
    if files is None:  # as it is with config.json alone in the cache, and no network
        return HubModel(commit, config, None, None, {})
    return HubModel(commit, config, None, files, files.shapes())


def _files_in(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


class HubFiles:
    """`ModelFiles` of a commit on the hub; a file that is opened is fetched to the cache."""

    def __init__(self, name: str, commit: str, sizes: Mapping[str, int]) -> None:
        self.where = name
        self._commit = commit
        self._sizes = dict(sorted(sizes.items()))

    def sizes(self) -> dict[str, int]:
        return self._sizes

    def open(self, name: str) -> Any:
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.where, name, revision=self._commit)).open("rb")
        except Exception as error:  # as in `_ask`
            raise ModelError(_unreachable(self.where, error)) from error

    def digest(self) -> str:
        return self._commit

    def shapes(self) -> Shapes:
        """From the headers of the weights; empty if they are pickled or out of reach."""
        from huggingface_hub import HfApi

        found: dict[str, tuple[int, ...]] = {}
        for name in self._sizes:
            if name.endswith(".safetensors") and "/" not in name:
                try:
                    header = HfApi().parse_safetensors_file_metadata(
                        self.where, name, revision=self._commit
                    )
                except Exception:  # a worker has the file itself
                    return {}
                found |= {n: tuple(tensor.shape) for n, tensor in header.tensors.items()}
        return found


def _listed(name: str, commit: str) -> HubFiles | None:
    """The files that the hub lists, with sizes; None if it does not answer or gives no sizes."""
    from huggingface_hub import model_info

    try:
        listed = model_info(name, revision=commit, timeout=TIMEOUT_S, files_metadata=True).siblings
    except Exception:  # a worker that can reach it checks the same
        return None
    sizes = {file.rfilename: file.size for file in listed or () if is_deciding(file.rfilename)}
    if "config.json" not in sizes or not all(isinstance(size, int) for size in sizes.values()):
        return None
    return HubFiles(name, commit, {n: size for n, size in sizes.items() if size is not None})


def cached_commit(cache: Path, revision: str) -> str | None:
    """The commit that a branch or tag had when it was last fetched; None if it never was."""
    refs = (cache / "refs").resolve()
    file = (refs / revision).resolve()
    if not file.is_relative_to(refs) or not file.is_file():
        return None
    commit = file.read_text().strip()
    return commit if COMMIT.fullmatch(commit) else None


def _ask(name: str, revision: str | None) -> str:
    from huggingface_hub import model_info
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit: str | None = model_info(name, revision=revision, timeout=TIMEOUT_S).sha
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {name}: neither a folder here nor a model on the hub (or it needs a token)"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model {name} has no revision {revision!r} on the hub") from error
    except Exception as error:
        # the hub's client raises its own, its transport's and the operating system's errors
        raise ModelError(_unreachable(name, error)) from error
    if not commit or not COMMIT.fullmatch(commit):
        raise ModelError(f"model {name}: the hub names no commit; give one with --revision")
    return commit


def _config(name: str, commit: str, snapshot: Path) -> Mapping[str, Any]:
    cached = snapshot / "config.json"
    if cached.is_file():
        return parse_config(cached.read_bytes(), name)
    _ask(name, commit)  # a hub that is out of reach says so at once; a download tries for 20 s
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    try:
        path = Path(hf_hub_download(name, "config.json", revision=commit))
    except RevisionNotFoundError as error:
        raise ModelError(f"model {name} has no commit {commit} on the hub") from error
    except EntryNotFoundError as error:
        if "Local" in type(error).__name__:  # offline and not in the cache
            raise ModelError(_unreachable(name, error)) from error
        raise ModelError(f"model {name} has no config.json at {commit}") from error
    except Exception as error:  # as above
        raise ModelError(_unreachable(name, error)) from error
    return parse_config(path.read_bytes(), name)


def _unreachable(name: str, error: Exception) -> str:
    return (
        f"model {name} is no folder here and not in the hub's cache, and the hub could not be "
        f"asked ({type(error).__name__}); give --model a folder, fetch it where there is a network "
        f"(hf download {name}) and set HF_HOME, or give its commit with --revision"
    )
