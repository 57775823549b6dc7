"""Which files an INPUT means: a file, a folder, a glob, on a disk or in a bucket."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import unquote

from headrace.formats.catalog import READ_AS, by_name
from headrace.formats.opener import first_bytes
from headrace.formats.parquet import MAGIC, MAGIC_ENCRYPTED
from headrace.storage.store import ObjectInfo, Store
from headrace.storage.uri import is_local_uri, mask_uri, normalise_uri, split_uri
from producers.planning.globs import glob_to_regex
from producers.planning.passed_over import PassedOver
from producers.planning.tables import (
    NAMES,
    Kind,
    ReadTable,
    TablesInGlob,
    check_no_log,
    check_no_other_table,
    check_not_inside,
    table_above,
    table_kind,
)
from schemas.errors import InputNotFound, InputUnreadable
from schemas.records.chunk import InputFile

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and DuckDB write into a path for a null."""
MOST_PEEKS = 1_000
"""Chosen: half a minute of requests for files that are no Parquet; then names alone decide."""
MOST_FOLDERS = 1_000
"""Chosen: a listing stays in a folder while it lists it."""
_GLOB = re.compile(r"[*?\[]")

OpenStore = Callable[[str], Store]
"""Opens the store at a URI; `headrace.storage.open.open_store` with its settings bound."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the corpus that was listed and is not read yet."""

    store: Store
    info: ObjectInfo
    partitions: tuple[tuple[str, str | None], ...]

    @property
    def uri(self) -> str:
        return f"{self.store.uri.rstrip('/')}/{self.info.name}"


def discover(
    patterns: Iterable[str],
    open_store: OpenStore,
    *,
    only: str | None = None,
    literal: bool = False,
    allow_empty: bool = False,
    in_part: bool = False,
    passed: PassedOver | None = None,
    read_table: ReadTable | None = None,
) -> Iterator[Found]:
    """The files, pattern by pattern and by name within one; a file matched twice comes once.

    A folder and a link to it hold the same files, also inside a folder: a file comes once, under
    its own name where that is listed. With `literal` no pattern is a glob. In folders
    and globs, names that begin with `_` or `.` are left out. `name=value` folders below the given
    folder (or before the first wildcard) are partitions, their values URL-decoded strings.

    In a folder a file counts whose name says its format, or which begins as Parquet; others are
    counted in `passed`. With `only`, a glob for names below a folder, exactly these count. A folder
    that is a Delta Lake or Iceberg table means the files of its present snapshot (`read_table`).
    With `allow_empty` a glob, a prefix of a bucket or a folder that is there may hold nothing.
    `in_part`: the caller may stop before the end, where the log of a table could be.

    Raises:
        InputNotFound: a pattern that matches nothing.
        MissingExtra: a table, without the library for it.
        ConfigError, UriNotAllowed, InputUnreadable, StorageError: as the stores say.
    """
    patterns = list(patterns)
    chosen = _Choice(
        re.compile(glob_to_regex(only)) if only else None,
        passed or PassedOver(),
        read_table,
        in_part,
    )
    seen: set[str] = set()
    for pattern in patterns:
        empty = True
        for found in _expand(pattern, open_store, chosen, literal):
            empty = False
            if len(patterns) > 1:
                place = os.path.realpath(found.uri) if found.store.is_local else found.uri
                if place in seen:
                    continue
                seen.add(place)
            yield found
        if empty and not (allow_empty and _may_be_empty(pattern, literal)):
            raise InputNotFound(_nothing(pattern, only, literal))


@dataclass(frozen=True, slots=True)
class _Choice:
    """Decides which files of a folder are taken."""

    only: re.Pattern[str] | None
    passed: PassedOver
    read_table: ReadTable | None
    in_part: bool
    linked: set[str] = field(default_factory=set)
    """Files on a disk that were reached by a link inside the listing."""
    folders: dict[str, str] = field(default_factory=dict)
    """Real paths of this listing's folders, with links resolved."""
    no_tables: set[str] = field(default_factory=set)
    """Folders of files that were named, in no table."""

    def check_named(self, uri: str, folder: str, open_store: OpenStore) -> None:
        """Refuse a file of a table: a shell turns `table/*.parquet` into names of files."""
        if folder not in self.no_tables:
            check_not_inside(uri, open_store, is_file=True)
            self.no_tables.add(folder)

    def is_double(self, store: Store, name: str, lists: Callable[[str], bool]) -> bool:
        """Whether a link leads to this file, and it comes under another name; it is counted then.

        `lists` tells whether the listing has a file of that name.
        """
        if not store.is_local:
            return False
        root = self._real(store.uri)
        place = os.path.join(self._real(os.path.join(root, os.path.dirname(name))), _base(name))
        place = os.path.realpath(place) if os.path.islink(place) else place
        if place == os.path.join(root, name):
            return False
        own = os.path.relpath(place, root)
        is_double = place in self.linked or (not own.startswith("..") and lists(own))
        self.linked.add(place)
        if is_double:
            self.passed.add_link(name)
        return is_double

    def add_broken(self, store: Store, is_meant: Callable[[str], bool]) -> None:
        """Note links to files that are not there, after a listing that went to its end."""
        for name in sorted(getattr(store, "broken_links", ())):
            by_pattern = self.only is not None and self.only.fullmatch(name) is not None
            if is_meant(name) and not _hidden(name) and (by_pattern or by_name(name) is not None):
                self.passed.broken.append(name)

    def _real(self, folder: str) -> str:
        if len(self.folders) > MOST_FOLDERS:
            self.folders.clear()
        if folder not in self.folders:
            self.folders[folder] = os.path.realpath(folder)
        return self.folders[folder]

    def lists(self, store: Store, name: str) -> bool:
        """Whether an existing file on a disk would be taken, by its name and its first bytes."""
        if _hidden(name):
            return False
        if self.only is not None:
            return self.only.fullmatch(name) is not None
        if by_name(name) is not None:
            return True
        info = store.head(name)
        return info is not None and self._begins_as_parquet(store, info)

    def takes(self, store: Store, info: ObjectInfo) -> bool:
        if not is_plain(info.name):
            self.passed.add_odd(info.name)
            return False
        table = table_above(info.name)
        if table is not None:
            raise InputUnreadable(
                f"{store.uri}/{table} is a table of its own (Delta Lake, Iceberg or the like): give it as "
                "an INPUT by itself, so that rows that were deleted are not read"
            )
        if _hidden(info.name):
            self.passed.add_hidden(info.name)
            return False
        if self.only is not None:
            return self.only.fullmatch(info.name) is not None
        if by_name(info.name) is not None or self._begins_as_parquet(store, info):
            return True
        self.passed.add(info.name)
        return False

    def _begins_as_parquet(self, store: Store, info: ObjectInfo) -> bool:
        if info.size < 12:
            return False
        if self.passed.peeks >= MOST_PEEKS:
            self.passed.not_opened += 1
            return False
        is_parquet = first_bytes(store, info.name)[:4] in (MAGIC, MAGIC_ENCRYPTED)
        self.passed.peeks += not is_parquet
        return is_parquet


def is_plain(name: str) -> bool:
    """Whether a URI can name it: `a//b` and `a/./b` are keys of a bucket, and would mean `a/b`."""
    return not any(part in ("", ".", "..") for part in name.split("/"))


def discover_planned(files: Iterable[InputFile], open_store: OpenStore) -> Iterator[Found]:
    """The files of a plan, in its order, as they are now.

    Raises:
        InputNotFound: one is gone.
    """
    for file in files:
        root, name = split_uri(file.uri)
        store = open_store(root)
        info = store.head(name)
        if info is None:
            raise InputNotFound(f"{file.uri}, which was planned, is not there any more")
        yield Found(store, info, file.partitions)


def _expand(pattern: str, open_store: OpenStore, chosen: _Choice, literal: bool) -> Iterator[Found]:
    uri = normalise_uri(pattern)
    if not literal and _GLOB.search(uri) and not os.path.exists(uri):
        return _glob(uri, open_store, chosen)
    return _file_or_folder(uri, open_store, chosen)


def _file_or_folder(uri: str, open_store: OpenStore, chosen: _Choice) -> Iterator[Found]:
    is_local = is_local_uri(uri)
    if is_local and os.path.isfile(uri):
        # the user named this link; a store follows no link that leaves it
        uri = os.path.realpath(uri)
    root, name = split_uri(uri)
    if name and not (is_local and os.path.isdir(uri)):
        store = open_store(root)
        info = store.head(name)
        if info is not None:
            chosen.check_named(uri, root, open_store)
            yield Found(store, info, ())
            return
    store = open_store(uri)
    kind = table_kind(store)
    if kind is not None:
        yield from _of_table(kind, store, open_store, chosen)
        return
    check_not_inside(store.uri, open_store)
    if chosen.in_part:
        check_no_other_table(store)
    for info in store.list():
        check_no_log(store.uri, info.name)
        if chosen.takes(store, info) and not chosen.is_double(
            store, info.name, partial(chosen.lists, store)
        ):
            yield Found(store, info, partitions_of(info.name))
    chosen.add_broken(store, lambda name: True)


def _of_table(kind: Kind, store: Store, open_store: OpenStore, chosen: _Choice) -> Iterator[Found]:
    """The files of a table's snapshot."""
    from headrace.storage.uri import split_uri

    if chosen.read_table is None:
        raise InputUnreadable(f"{store.uri} is {NAMES[kind]}, which is not read here")
    snapshot = chosen.read_table(kind, store.uri, store)
    chosen.passed.notes.append(snapshot.note())
    stores: dict[str, Store] = {}
    for file in snapshot.files:
        root, name = split_uri(file.uri)
        if root not in stores:
            stores = {root: open_store(root)}
        info = stores[root].head(name)
        if info is None:
            raise InputUnreadable(f"{file.uri} is a file of {NAMES[kind]}, and is not there")
        yield Found(stores[root], info, file.partitions)


def _glob(uri: str, open_store: OpenStore, chosen: _Choice) -> Iterator[Found]:
    parts = uri.split("/")
    first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
    # "s3://bucket" and the root of a disk stay whole
    root = "/".join(parts[:first]) or "/"
    rest = "/".join(parts[first:])
    matches = re.compile(glob_to_regex(rest))
    any_suffix = not rest.endswith("*")
    store = open_store(root)

    def is_named(name: str, match: re.Match[str]) -> bool:
        return any_suffix and match["below"] is None and is_plain(name)

    def lists(name: str) -> bool:
        match = matches.fullmatch(name)
        return match is not None and (
            (is_named(name, match) and not _hidden(name)) or chosen.lists(store, name)
        )

    if table_kind(store) is not None:
        raise InputUnreadable(
            f"{store.uri} is a table (Delta Lake or Iceberg): give the folder itself as INPUT, so "
            "that rows that were deleted are not read"
        )
    check_not_inside(store.uri, open_store)
    check_no_other_table(store, by_glob=True)
    tables = TablesInGlob(store.uri)
    for info in store.list(_GLOB.split(rest, maxsplit=1)[0]):
        tables.see(info.name)
        match = matches.fullmatch(info.name)
        if match is None:
            continue
        if is_plain(info.name) and _hidden(info.name):
            chosen.passed.add_hidden(info.name)
            continue
        is_taken = is_named(info.name, match) or chosen.takes(store, info)
        if is_taken and not chosen.is_double(store, info.name, lists):
            tables.take(info.name)
            yield Found(store, info, partitions_of(info.name))
    chosen.add_broken(store, lambda name: matches.fullmatch(name) is not None)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def partitions_of(name: str) -> tuple[tuple[str, str | None], ...]:
    """Hive partitions in the folders of a name: `year=2026/x.parquet` gives `(("year", "2026"),)`.

    Hive's name for null is None. If a name occurs twice, the value nearest to the file is used.
    """
    found: dict[str, str | None] = {}
    for part in name.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key:
            found[unquote(key)] = None if value == NULL_PARTITION else unquote(value)
    return tuple(found.items())


def _hidden(name: str) -> bool:
    """A folder such as `_temporary/` or `.cache/`, or such a file; `_x=1/` is a partition."""
    *folders, file = name.split("/")
    if file.startswith(("_", ".")):
        return True
    return any(f.startswith(".") or (f.startswith("_") and "=" not in f) for f in folders)


def _may_be_empty(pattern: str, literal: bool) -> bool:
    """Whether a pattern may match nothing: not a named file, and not a missing folder, which are always mistakes."""
    uri = normalise_uri(pattern)
    if not literal and _GLOB.search(uri) and not os.path.exists(uri):
        return True
    return os.path.isdir(uri) if is_local_uri(uri) else by_name(uri) is None


def _nothing(pattern: str, only: str | None, literal: bool) -> str:
    uri = normalise_uri(pattern)
    shown = mask_uri(uri)
    if not literal and _GLOB.search(uri):
        return f"no file matches {shown}"
    if not is_local_uri(uri):
        return f"nothing at {shown}: neither an object of that name nor files below it"
    if os.path.isdir(uri):
        return f"no files in {shown}: a folder is searched for {READ_AS if only is None else only}"
    return f"{shown} does not exist"


def covers(pattern: str, uri: str, *, literal: bool = False) -> bool:
    """Whether the pattern would find a file at this URI."""
    root = normalise_uri(pattern)
    if uri == root:
        return True
    if not literal and _GLOB.search(root) and not os.path.exists(root):
        parts = root.split("/")
        first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
        base, rest = "/".join(parts[:first]), "/".join(parts[first:])
        name = uri.removeprefix(f"{base}/")
        return name != uri and bool(re.fullmatch(glob_to_regex(rest), name)) and not _hidden(name)
    name = uri.removeprefix(f"{root.rstrip('/')}/")
    return name != uri and not _hidden(name)
