"""Stores checkpoints of a training: files first, then a record that is created only if absent.

A checkpoint is committed like a part: files in the attempt's own folder, with digests, and then one small
object, `checkpoints/000400.json`, that names them with their digests. A later attempt reads only
such records and checks every digest, so that an incomplete folder is never used.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from headrace.process.logs import get_logger
from headrace.storage.store import Store
from schemas.errors import OutputConflict
from schemas.names import output_layout
from schemas.records.training import Checkpoint, StoredFile, parse_checkpoint

log = get_logger(__name__)

KEPT = 2
"""Newest checkpoints that are kept, besides the best one."""
PICKLED_ARGUMENTS = "training_args.bin"
"""Written by transformers beside each checkpoint; a pickle of settings that no process reads."""


def put_files(store: Store, folder: str, source: Path) -> tuple[StoredFile, ...]:
    """The files of a local folder under `folder` of the store, with their digests.

    Raises:
        StorageError: the store failed, or holds another file under one of the names.
    """
    found = []
    for path in sorted(source.iterdir()):
        if path.name == PICKLED_ARGUMENTS or not path.is_file():
            continue
        size, digest = path.stat().st_size, _sha256(path)
        store.create_from_file(f"{folder}{path.name}", path)
        found.append(StoredFile(name=path.name, size=size, sha256=digest))
    return tuple(found)


def get_files(store: Store, folder: str, files: Iterable[StoredFile], target: Path) -> bool:
    """Copy the files to a local folder; False if one is missing or damaged."""
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            with store.open(f"{folder}{file.name}") as source:
                _copy(source, target / file.name)
        except FileNotFoundError:
            return False
        path = target / file.name
        if path.stat().st_size != file.size or _sha256(path) != file.sha256:
            return False
    return True


class CheckpointBook:
    """The checkpoints of one run, as read and written by one attempt."""

    def __init__(self, store: Store, attempt: str, fault: Callable[[str], None]) -> None:
        """`fault` is called with the steps of a commit; tests kill the process there."""
        self._store, self._attempt, self._fault = store, attempt, fault

    def newest(self, target: Path) -> Checkpoint | None:
        """The newest complete checkpoint, with its files copied to `target`; None if there is none."""
        for step in sorted(self._steps(), reverse=True):
            found = self._read(step)
            if found is None:
                continue
            if get_files(self._store, found.folder, found.files, target):
                return found
            shutil.rmtree(target, ignore_errors=True)
            log.warning("checkpoint.damaged", step=step)
        return None

    def best(self, step: int, target: Path) -> bool:
        """Copy the files of that step's checkpoint to `target`; False if they are incomplete."""
        found = self._read(step)
        return found is not None and get_files(self._store, found.folder, found.files, target)

    def commit(self, step: int, source: Path, state: dict[str, Any]) -> bool:
        """Commit the folder's files as the state after `step`; False: another attempt has done so.

        Raises:
            StorageError: the store failed.
        """
        folder = output_layout.checkpoint_folder(self._attempt, step)
        files = put_files(self._store, folder, source)
        self._fault("checkpoint_files")
        record = Checkpoint(step=step, attempt=self._attempt, folder=folder, files=files, **state)
        name = output_layout.checkpoint(step)
        won = self._store.create(name, record.model_dump_json(indent=1).encode())
        self._fault("checkpoint")
        if won:
            log.info("checkpoint.committed", step=step)
        return won

    def forget_old(self, best: int | None) -> None:
        """Delete all but the newest two and the best; each record first, so that none is incomplete."""
        steps = sorted(self._steps())
        self._delete(step for step in steps[:-KEPT] if step != best)

    def forget_all(self) -> None:
        """Delete every checkpoint after the model is published; also what killed attempts left."""
        self._delete(self._steps())
        for info in list(self._store.list(output_layout.CHECKPOINTS)):
            self._store.delete(info.name)

    def _delete(self, steps: Iterable[int]) -> None:
        for step in steps:
            found = self._read(step)
            self._store.delete(output_layout.checkpoint(step))
            for file in found.files if found else ():
                self._store.delete(f"{found.folder}{file.name}" if found else "")

    def _steps(self) -> Sequence[int]:
        names = (info.name for info in self._store.list(output_layout.CHECKPOINTS))
        return [s for name in names if (s := output_layout.step_of_checkpoint(name)) is not None]

    def _read(self, step: int) -> Checkpoint | None:
        name = output_layout.checkpoint(step)
        data = self._store.read(name)
        try:
            return None if data is None else parse_checkpoint(data, f"{self._store.uri}/{name}")
        except OutputConflict as error:
            log.warning("checkpoint.damaged", step=step, reason=str(error))
            return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Any, target: Path) -> None:
    with target.open("wb") as file:
        while block := bytes(source.read(1 << 22)):
            file.write(block)
