"""Which files an INPUT means: a file, a folder, a glob, on a disk or in a bucket."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from urllib.parse import unquote

from headrace.storage.store import ObjectInfo, Store
from schemas.errors import InputNotFound

SUFFIX = ".parquet"
_GLOB = re.compile(r"[*?\[]")

OpenStore = Callable[[str], Store]
"""Opens the store at a URI; `headrace.storage.open.open_store` with its settings bound."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the corpus that was listed and not yet read."""

    store: Store
    info: ObjectInfo
    partitions: tuple[tuple[str, str], ...]

    @property
    def uri(self) -> str:
        return f"{self.store.uri.rstrip('/')}/{self.info.name}"


def discover(patterns: Iterable[str], today: date, open_store: OpenStore) -> Iterator[Found]:
    """The files, pattern by pattern and by name within one; a file matched twice comes once.

    `{date}` in a pattern is `today` as YYYY-MM-DD. In folders and globs, names that begin with
    `_` or `.` are left out. `name=value` folders below the given folder (or before the first
    wildcard) are partitions, their values URL-decoded strings.

    Raises:
        InputNotFound: a pattern that matches nothing.
        ConfigError, UriNotAllowed, InputUnreadable, StorageError: as the stores say.
    """
    patterns = list(patterns)
    seen: set[str] = set()
    for pattern in patterns:
        empty = True
        for found in _expand(pattern.replace("{date}", today.isoformat()), open_store):
            empty = False
            if len(patterns) > 1:
                if found.uri in seen:
                    continue
                seen.add(found.uri)
            yield found
        if empty:
            raise InputNotFound(_nothing(pattern, today))


def _expand(pattern: str, open_store: OpenStore) -> Iterator[Found]:
    from headrace.storage.uri import normalise_uri

    uri = normalise_uri(pattern)
    if _GLOB.search(uri) and not os.path.exists(uri):
        return _glob(uri, open_store)
    return _file_or_folder(uri, open_store)


def _file_or_folder(uri: str, open_store: OpenStore) -> Iterator[Found]:
    from headrace.storage.uri import is_local_uri, split_uri

    is_local = is_local_uri(uri)
    if is_local and os.path.isfile(uri):
        uri = os.path.realpath(uri)  # the user named this link; a store follows none out of itself
    root, name = split_uri(uri)
    if name and not (is_local and os.path.isdir(uri)):
        store = open_store(root)
        info = store.head(name)
        if info is not None:
            yield Found(store, info, ())
            return
    store = open_store(uri)
    for info in store.list():
        if info.name.endswith(SUFFIX) and not _hidden(info.name):
            yield Found(store, info, partitions_of(info.name))


def _glob(uri: str, open_store: OpenStore) -> Iterator[Found]:
    parts = uri.split("/")
    first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
    # "s3://bucket" and the root of a disk stay whole
    root = "/".join(parts[:first]) or "/"
    rest = "/".join(parts[first:])
    matches = re.compile(glob_to_regex(rest))
    any_suffix = not rest.endswith("*")
    store = open_store(root)
    for info in store.list(_GLOB.split(rest, maxsplit=1)[0]):
        match = matches.fullmatch(info.name)
        if match is None or _hidden(info.name):
            continue
        inside_a_folder = match["below"] is not None
        if info.name.endswith(SUFFIX) or (any_suffix and not inside_a_folder):
            yield Found(store, info, partitions_of(info.name))


def glob_to_regex(pattern: str) -> str:
    """A regular expression for names: `**` crosses folders, `*`, `?` and `[…]` do not.

    A folder that matches stands for all that is in it; that part is the group `below`.
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] in "*?":
            out.append("[^/]*" if pattern[at] == "*" else "[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            out.append(f"(?!/)[{'^' + inner[1:] if inner[0] == '!' else inner}]")
            at = end + 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return "".join(out) + "(?P<below>/.+)?"


def partitions_of(name: str) -> tuple[tuple[str, str], ...]:
    """Hive partitions in the folders of a name: `year=2026/x.parquet` gives `(("year", "2026"),)`.

    A name that stands twice has the value nearest to the file.
    """
    found: dict[str, str] = {}
    for part in name.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key:
            found[unquote(key)] = unquote(value)
    return tuple(found.items())


def _hidden(name: str) -> bool:
    """A folder such as `_temporary/` or `.cache/`, or such a file; `_x=1/` is a partition."""
    *folders, file = name.split("/")
    if file.startswith(("_", ".")):
        return True
    return any(f.startswith(".") or (f.startswith("_") and "=" not in f) for f in folders)


def _nothing(pattern: str, today: date) -> str:
    from headrace.storage.uri import is_local_uri, mask_uri, normalise_uri

    uri = normalise_uri(pattern.replace("{date}", today.isoformat()))
    shown = mask_uri(uri)
    if _GLOB.search(uri):
        return f"no file matches {shown}"
    if not is_local_uri(uri):
        return f"nothing at {shown}: neither an object of that name nor {shown}/…{SUFFIX}"
    if os.path.isdir(uri):
        return f"no files in {shown}: a folder is searched for *{SUFFIX}"
    return f"{shown} does not exist"


def covers(pattern: str, uri: str, today: date) -> bool:
    """Whether a file at that URI would be found by the pattern."""
    from headrace.storage.uri import normalise_uri

    root = normalise_uri(pattern.replace("{date}", today.isoformat()))
    if uri == root:
        return True
    if _GLOB.search(root) and not os.path.exists(root):
        parts = root.split("/")
        first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
        base, rest = "/".join(parts[:first]), "/".join(parts[first:])
        name = uri.removeprefix(f"{base}/")
        return name != uri and bool(re.fullmatch(glob_to_regex(rest), name)) and not _hidden(name)
    name = uri.removeprefix(f"{root.rstrip('/')}/")
    return name != uri and not _hidden(name)
