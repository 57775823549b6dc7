"""Delta Lake and Iceberg folders: which of their files are the table, by their own libraries.

Such a folder also has files of rows that were overwritten or deleted. A table is read as its
current snapshot: the files of the snapshot are the input, and the plan keeps them. A table whose
files alone are not enough (deleted rows, renamed columns) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.settings import Settings
from headrace.storage.store import Store
from headrace.storage.uri import is_local_uri
from schemas.errors import HeadraceError, InputUnreadable, MissingExtra

Kind = Literal["delta", "iceberg"]
LOG = "_delta_log/"
METADATA = (".metadata.json", ".metadata.json.gz")
NAMES: dict[Kind, str] = {"delta": "a Delta Lake table", "iceberg": "an Iceberg table"}
SIMPLE_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
"""Reader features of Delta Lake that change nothing in a data file."""
_VERSION = re.compile(r"(?:^|/)v?(\d+)[^/]*\.metadata\.json(?:\.gz)?$")
_TRANSACTIONS = re.compile(
    r"(?:^|/)((?:base|delta|delete_delta)_\d{7,}(?:_\d{7,})?(?:_\d{4})?(?:_v\d+)?)/"
)
"""Folders of Hive's and Impala's transactional tables. Source: Hive's AcidUtils."""
_DUCKLAKE = re.compile(r"(?:^|/)(ducklake-[0-9a-f-]{36}(?:-delete)?\.parquet)$")


@dataclass(frozen=True, slots=True)
class TableFile:
    """A data file of a snapshot, with its partition values if they are not in the file."""

    uri: str
    partitions: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as it is now."""

    kind: Kind
    uri: str
    version: str
    files: tuple[TableFile, ...]

    def note(self) -> str:
        """A sentence that says what is read."""
        return (
            f"{self.uri} is {NAMES[self.kind]}: version {self.version}, {len(self.files):,} files"
        )


ReadTable = Callable[[Kind, str, Store], Snapshot]
"""Reads the snapshot of a table: its kind, its URI, the store at it."""


def table_kind(store: Store) -> Kind | None:
    """The kind of table in the folder; None if it is not a table."""
    if next(iter(store.list(LOG)), None) is not None:
        return "delta"
    if any(info.name.endswith(METADATA) for info in store.list("metadata/")):
        return "iceberg"
    return None


STREAM = "_spark_metadata/"
OTHERS: tuple[tuple[str, str], ...] = (
    (".hoodie/", "a Hudi table"),
    ("snapshot/LATEST", "a Paimon table"),
    (STREAM, "the output of a Spark stream"),
)
"""What shows other tables whose folders hold files that are no part of them. Source: their
documentation; Spark's FileStreamSink."""


def check_no_other_table(store: Store, by_glob: bool = False) -> None:
    """Refuse a folder of which only a log says which files count, and headrace does not read it.

    Asks the store three times: for listings that may miss the log. With `by_glob` the files of a
    Spark stream were named on purpose.

    Raises:
        InputUnreadable: see there.
    """
    for prefix, _ in OTHERS:
        if prefix == STREAM and by_glob:
            continue
        for info in store.list(prefix):
            check_no_log(store.uri, info.name)
            break


def check_no_log(uri: str, name: str) -> None:
    """The same, from a name that a listing of the folder at the URI shows.

    Raises:
        InputUnreadable: see there.
    """
    check_no_versions(uri, name)
    for prefix, kind in OTHERS:
        if name.startswith(prefix):
            way = "or give its files as a glob, if no batch of it failed" if prefix == STREAM else (
                "and give that"
            )  # fmt: skip
            raise InputUnreadable(
                f"{uri} is {kind} ({prefix}): some of its files may be no part of it, and "
                f"headrace does not read its log; write its rows as plain Parquet first, {way}"
            )


def check_no_versions(uri: str, name: str) -> None:
    """Refuse a file that its name shows as one of several states of a table.

    Raises:
        InputUnreadable: see there.
    """
    for pattern, kind in (
        (_TRANSACTIONS, "a transactional table of Hive or Impala"),
        (_DUCKLAKE, "the data of a DuckLake"),
    ):
        if found := pattern.search(name):
            raise InputUnreadable(
                f"{uri} is {kind} ({found[1]}): some of its files may be no part of it any more, and "
                "headrace does not know which; write its rows as plain Parquet first, and give that"
            )


def check_not_inside(
    uri: str, open_store: Callable[[str], Store], *, is_file: bool = False
) -> None:
    """Refuse a folder of a table, `day=1/` of Delta Lake and `data/` of Iceberg, or one of its files.

    Asks the store above a folder only if the folder's name is such a one. A store that does not
    show what is above is taken to have no table there.

    Raises:
        InputUnreadable: see there.
    """
    what = "a file" if is_file else "a folder"
    folder, _, name = uri.rstrip("/").rpartition("/")
    while folder.strip("/") and (is_file or "=" in name or name == "data"):
        try:
            above = open_store(folder)
            is_table = table_kind(above) is not None
        except HeadraceError:  # rights for a part of a bucket only
            return
        if is_table:
            raise InputUnreadable(
                f"{uri} is {what} of the table {above.uri} (Delta Lake or "
                "Iceberg): give the table itself as INPUT, so that rows that were deleted are not read"
            )
        folder, _, name = folder.rpartition("/")
        is_file = False


@dataclass(frozen=True, slots=True)
class TablesInGlob:
    """Finds tables in the listing of a glob, whose logs the glob itself need not match."""

    uri: str
    tables: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def see(self, name: str) -> None:
        """A name of the listing, taken or not.

        Raises:
            InputUnreadable: the log of a table of which a file was taken.
        """
        table = None if f"/{STREAM}" in name else table_above(name)
        if table is not None and table not in self.tables:
            self.tables.add(table)
            self._check(table, self.folders)

    def take(self, name: str) -> None:
        """A name that the glob takes.

        Raises:
            InputUnreadable: a file of a table whose log was seen, or a state of one.
        """
        check_no_versions(self.uri, name)
        folder = name.rpartition("/")[0]
        if folder not in self.folders:
            self.folders.add(folder)
            for table in self.tables:
                self._check(table, (folder,))

    def _check(self, table: str, folders: Iterable[str]) -> None:
        if any(f"{folder}/".startswith(f"{table}/") for folder in folders):
            raise InputUnreadable(
                f"{self.uri}/{table} is a table of its own (Delta Lake, Iceberg or the like): give it "
                "as an INPUT by itself, so that rows that were deleted are not read"
            )


def table_above(name: str) -> str | None:
    """The folder of the table that a file's name shows, for files inside a larger folder."""
    for log in (f"/{LOG}", *(f"/{prefix}" for prefix, _ in OTHERS)):
        if log in name:
            return name.split(log)[0]
    if name.endswith(METADATA) and "/metadata/" in name:
        return name.rsplit("/metadata/", 1)[0]
    return None


def table_reader(settings: Settings) -> ReadTable:
    """A reader by the tables' own libraries, with the settings' object store."""

    def read(kind: Kind, uri: str, store: Store) -> Snapshot:
        return _delta(uri, settings) if kind == "delta" else _iceberg(uri, store, settings)

    return read


def _delta(uri: str, settings: Settings) -> Snapshot:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise _missing("delta", uri) from error
    import pyarrow as pa

    try:
        table = DeltaTable(uri, storage_options=_delta_options(uri, settings))
        features = set(table.protocol().reader_features or ()) - SIMPLE_FEATURES
        if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
            features.add("columnMapping")
        if features:
            raise InputUnreadable(
                f"{uri} is a Delta Lake table with {', '.join(sorted(features))}: its files alone do "
                "not say its rows; write a copy without (REORG TABLE … APPLY (PURGE), or CTAS)"
            )
        actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        version = table.version()
    except (DeltaError, OSError) as error:
        raise InputUnreadable(
            f"{uri} is a Delta Lake table that cannot be read: {error}"
        ) from error
    files = [_delta_file(uri, action) for action in actions]
    return Snapshot("delta", uri, str(version), tuple(sorted(files, key=lambda f: f.uri)))


def _delta_file(uri: str, action: dict[str, Any]) -> TableFile:
    from urllib.parse import unquote

    path = unquote(action["path"])
    pairs = tuple(
        (name.removeprefix("partition."), _partition_text(value))
        for name, value in action.items()
        if name.startswith("partition.")
    )
    return TableFile(path if "://" in path else f"{uri.rstrip('/')}/{path}", pairs)


def _partition_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _iceberg(uri: str, store: Store, settings: Settings) -> Snapshot:
    try:
        from pyiceberg.exceptions import ValidationError
        from pyiceberg.table import StaticTable
    except ImportError as error:
        raise _missing("iceberg", uri) from error
    location = (
        f"{uri.rstrip('/')}/{newest_metadata(uri, (i.name for i in store.list('metadata/')))}"
    )
    try:
        table = StaticTable.from_metadata(location, _iceberg_options(uri, settings))
        _check_names(uri, table)
        tasks = list(table.scan().plan_files())
    except (ValidationError, OSError, ValueError) as error:
        raise InputUnreadable(f"{uri} is an Iceberg table that cannot be read: {error}") from error
    if any(task.delete_files for task in tasks):
        raise InputUnreadable(
            f"{uri} is an Iceberg table with delete files: its data files alone do not say its "
            "rows; rewrite them first (CALL system.rewrite_data_files)"
        )
    files = sorted(plain_location(task.file.file_path) for task in tasks)
    version = str(table.metadata.current_snapshot_id)
    return Snapshot("iceberg", uri, version, tuple(map(TableFile, files)))


def plain_location(location: str) -> str:
    """A location in Iceberg's metadata as a URI of ours; its letters are those of the file's name.

    A `file://` URI would be decoded, and `k=a%2Fb` is what a folder is called on the disk.
    """
    if location.startswith("file:"):
        return "/" + location.removeprefix("file:").lstrip("/")
    return re.sub(r"^s3[an]://", "s3://", location)


def newest_metadata(uri: str, names: Iterable[str]) -> str:
    """The metadata file with the highest number.

    Raises:
        InputUnreadable: several have it: only the catalogue knows which is the table.
    """
    numbered = [(int(m[1]), name) for name in names if (m := _VERSION.search(name))]
    most = max(number for number, _ in numbered)
    newest = [name for number, name in numbered if number == most]
    if len(newest) > 1:
        raise InputUnreadable(
            f"{uri} is an Iceberg table with several metadata files of number {most} "
            f"({', '.join(newest)}): only its catalogue knows which one counts; remove the others"
        )
    return newest[0]


def _check_names(uri: str, table: Any) -> None:
    """Refuse renamed columns: data files keep the old names."""
    ids: dict[str, int] = {}
    names: dict[int, str] = {}
    for schema in table.metadata.schemas:
        for name in schema.column_names:
            number = schema.find_field(name).field_id
            if ids.setdefault(name, number) != number or names.setdefault(number, name) != name:
                raise InputUnreadable(
                    f"{uri} is an Iceberg table whose column {name!r} was renamed or replaced: its "
                    "older files have other names; rewrite them first"
                )


def _missing(extra: Kind, uri: str) -> MissingExtra:
    return MissingExtra(
        f"{uri} is {NAMES[extra]}; its files hold rows that are no longer in it. To read it as a "
        f"table: pip install 'headrace[{extra}]'"
    )


def _delta_options(uri: str, settings: Settings) -> dict[str, str]:
    if is_local_uri(uri):
        return {}
    found = dict(_credentials())
    if settings.s3_endpoint_url:
        found["AWS_ENDPOINT_URL"] = settings.s3_endpoint_url
        found["AWS_ALLOW_HTTP"] = "true"
    found["AWS_REGION"] = settings.s3_region or found.get("AWS_REGION", "us-east-1")
    return found


def _iceberg_options(uri: str, settings: Settings) -> dict[str, str]:
    if is_local_uri(uri):
        return {}
    names = {
        "AWS_ACCESS_KEY_ID": "s3.access-key-id",
        "AWS_SECRET_ACCESS_KEY": "s3.secret-access-key",
        "AWS_SESSION_TOKEN": "s3.session-token",
        "AWS_ENDPOINT_URL": "s3.endpoint",
        "AWS_REGION": "s3.region",
    }
    options = _delta_options(uri, settings)
    return {names[name]: value for name, value in options.items() if name in names}


def _credentials() -> Iterator[tuple[str, str]]:
    """Credentials as boto3 finds them, so that a bucket needs only one set."""
    import boto3

    session = boto3.Session()
    found = session.get_credentials()
    if found is not None:
        frozen = found.get_frozen_credentials()
        yield "AWS_ACCESS_KEY_ID", frozen.access_key
        yield "AWS_SECRET_ACCESS_KEY", frozen.secret_key
        if frozen.token:
            yield "AWS_SESSION_TOKEN", frozen.token
    if session.region_name:
        yield "AWS_REGION", session.region_name
