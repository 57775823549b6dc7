"""A store in a folder: an object is a file, and `link(2)` ensures that exactly one creator wins.

A file gets its name only when it is complete and on the disk. It is written under `_headrace/tmp/`
of the same file system, synced and linked (or renamed) to its name; then the folder that holds the
name is synced too.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.storage.store import ObjectInfo
from schemas.errors import (
    DiskFull,
    HeadraceError,
    InputUnreadable,
    OutputNotWritable,
    StorageError,
    UriNotAllowed,
)

TMP = "_headrace/tmp"
"""Where files are built; never listed, and safe to empty when no job runs."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_ABSENT = (FileNotFoundError, NotADirectoryError)


class LocalStore:
    """A folder as a `Store`; the folder is made by the first write.

    Raises:
        UriNotAllowed: a name climbs out of the folder, by itself or through a symlink.
        InputUnreadable: no rights to read.
        OutputNotWritable: no rights to write, or a file system without hard links.
        DiskFull: no space left, or the quota is used up.
    """

    is_local = True
    has_etag = False

    def __init__(self, root: str | Path, *, follow_links: bool = False) -> None:
        """`follow_links`: reads may leave the folder, as in the hub's cache; writes never do."""
        self._follow_links = follow_links
        self.broken_links: set[str] = set()  # that a listing met
        self._root = Path(os.path.abspath(root))
        self._real_root = os.path.realpath(self._root)
        self.uri = str(self._root)

    def head(self, name: str) -> ObjectInfo | None:
        with _reading(name, self.uri):
            return _info(name, os.stat(self._path(name)))
        return None

    def read(self, name: str) -> bytes | None:
        with _reading(name, self.uri):
            return self._path(name).read_bytes()
        return None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        return self._walk(folder, prefix)

    def create(self, name: str, data: bytes) -> bool:
        target = self._place(name)
        if os.path.lexists(target):  # the link below decides; this check only saves a write
            return False
        with _Writing(name, self.uri):
            temp = self._write_temp(data)
            try:
                return self._link(temp, target)
            finally:
                temp.unlink(missing_ok=True)

    def create_from_file(self, name: str, path: Path) -> bool:
        target = self._place(name)
        with _Writing(name, self.uri):
            _sync(path)
            return self._link(path, target)

    def replace(self, name: str, data: bytes) -> None:
        target = self._place(name)
        with _Writing(name, self.uri):
            temp = self._write_temp(data)
            try:
                _make_folder(target.parent)
                os.replace(temp, target)
            finally:
                temp.unlink(missing_ok=True)
            _sync(target.parent)

    def delete(self, name: str) -> None:
        target = self._place(name)
        with _Writing(name, self.uri):
            try:
                target.unlink()
            except _ABSENT:
                return
            _sync(target.parent)

    def open(self, name: str, known: ObjectInfo | None = None) -> Any:
        from pyarrow.fs import LocalFileSystem

        if self.head(name) is None:
            raise FileNotFoundError(f"{name} is not in {self.uri}")
        with _reading(name, self.uri):
            return LocalFileSystem().open_input_file(str(self._path(name)))
        raise FileNotFoundError(f"{name} is not in {self.uri}")  # deleted in between

    def scratch(self) -> Path:
        """See `Store`; the caller removes the folder, or `clean_orphans` does later."""
        folder = self._place(f"{TMP}/{uuid.uuid4().hex}")
        with _Writing(TMP, self.uri):
            folder.mkdir(parents=True)
        return folder

    def clean_orphans(self) -> tuple[str, ...]:
        """Remove what unfinished writes left under `_headrace/tmp/`. Call only while no job writes."""
        folder = self._place(f"{TMP}/x").parent
        with _Writing(TMP, self.uri):
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            for name in names:
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        return tuple(f"{TMP}/{name}" for name in names)

    def _path(self, name: str) -> Path:
        """The file with this name, always inside the folder."""
        check_name(name)
        path = self._root / name
        if not self._follow_links and not self._is_inside(name):
            raise UriNotAllowed(f"{name} in {self.uri} is a symlink that leads out of the folder")
        return path

    def _place(self, name: str) -> Path:
        """The file to write or delete under this name; no link on its path leaves the folder.

        A link in place of the file itself is replaced or deleted, never followed.
        """
        path = self._path(name)
        if not self._is_inside(name.rpartition("/")[0]):
            raise UriNotAllowed(
                f"{name} in {self.uri} is behind a symlink that leads out of the folder: nothing is "
                "written or deleted there; put a folder in the link's place"
            )
        return path

    def _is_inside(self, name: str) -> bool:
        """Whether the file or folder with this name is in the root, links followed; "": the root."""
        if not self._has_link(name):
            return True
        real = os.path.realpath(self._root / name)
        return real == self._real_root or real.startswith(self._real_root.rstrip("/") + "/")

    def _has_link(self, name: str) -> bool:
        """Whether the root, or a step from there to this name, is a symlink.

        Without one the name cannot lead out. To resolve it from `/` takes ten times as long.
        """
        at = self.uri
        if os.path.islink(at):
            return True
        for step in filter(None, name.split("/")):
            at = f"{at}/{step}"
            if os.path.islink(at):
                return True
        return False

    def _write_temp(self, data: bytes) -> Path:
        temp = self._place(f"{TMP}/{uuid.uuid4().hex}")
        temp.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        return temp

    def _link(self, source: Path, target: Path) -> bool:
        _make_folder(target.parent)
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise OutputNotWritable(
                f"{self.uri} is on a file system without hard links ({error.strerror}), so that "
                "create-if-absent cannot be kept; choose another folder"
            ) from error
        _sync(target.parent)
        return True

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        """Objects under the folder, in order of their full name, as S3 lists them."""
        if folder == TMP or folder.startswith(f"{TMP}/"):
            return
        path = self._path(folder) if folder else self._root
        entries: list[tuple[str, os.DirEntry[str]]] = []
        with _reading(folder or ".", self.uri), os.scandir(path) as found:
            for entry in found:
                name = f"{folder}/{entry.name}" if folder else entry.name
                key = name + "/" if entry.is_dir() else name
                if key.startswith(prefix) or prefix.startswith(key):
                    entries.append((key, entry))
        for key, entry in sorted(entries, key=lambda pair: pair[0]):
            if not key.endswith("/"):
                yield from self._listed(key, entry)
            elif not (entry.is_symlink() and _leads_up(entry.path)):
                yield from self._walk(key[:-1], prefix)

    def _listed(self, name: str, entry: os.DirEntry[str]) -> Iterator[ObjectInfo]:
        if entry.is_symlink():
            self._path(name)  # refuses one that leads outside
        try:
            info = entry.stat()
        except FileNotFoundError:  # deleted since the folder was read, or a dangling link
            if entry.is_symlink():
                self.broken_links.add(name)
            return
        known = _info(name, info)
        if known is not None:
            yield known


def check_name(name: str) -> None:
    """Check that the name is relative and stays inside the folder.

    Raises:
        UriNotAllowed: an empty part, `.`, `..`, a leading `/`, or NUL.
    """
    if not name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise UriNotAllowed(f"not a name inside a store: {name!r}")


def _leads_up(link: str) -> bool:
    """Whether a symlink points to a folder that contains it, so that following it never ends."""
    return os.path.realpath(os.path.dirname(link)).startswith(os.path.realpath(link))


def _info(name: str, info: os.stat_result) -> ObjectInfo | None:
    if not stat.S_ISREG(info.st_mode):
        return None
    etag = f"{info.st_mtime_ns}-{info.st_size}"
    return ObjectInfo(name, info.st_size, etag, info.st_mtime)


def _make_folder(folder: Path) -> None:
    """Make the folder so that it survives a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    """Sync the file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _reading(name: str, uri: str) -> Iterator[None]:
    """Ignores a missing file; turns other errors of the system into ours."""
    try:
        yield
    except (*_ABSENT, IsADirectoryError):
        return
    except PermissionError as error:
        raise InputUnreadable(_no_rights("read", name, uri)) from error
    except OSError as error:
        raise StorageError(f"cannot read {name} in {uri}: {error.strerror}") from error


class _Writing:
    """Turns errors of the system into ours; always raises, as the type checker can see."""

    def __init__(self, name: str, uri: str) -> None:
        self._where = name, uri

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, OSError):
            raise _write_error(error, *self._where) from error


def _write_error(error: OSError, name: str, uri: str) -> HeadraceError:
    if error.errno in _FULL:
        return DiskFull(
            f"no space left for {name} in {uri} ({error.strerror}); nothing was left behind: "
            "make room, then resume"
        )
    if error.errno in _NO_RIGHTS:
        return OutputNotWritable(_no_rights("write", name, uri))
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return OutputNotWritable(
            f"cannot write {name} in {uri}: there is a file where a folder must be"
        )
    return StorageError(f"cannot write {name} in {uri}: {error.strerror}")


def _no_rights(verb: str, name: str, uri: str) -> str:
    return f"no rights to {verb} {name} in {uri}; check owner, mode and mount of the folder"
