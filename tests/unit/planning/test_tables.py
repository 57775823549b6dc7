"""A Delta Lake or Iceberg folder means its present snapshot, and is never read file by file."""

from __future__ import annotations

import builtins
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo

from headrace.storage.local import LocalStore
from headrace.storage.store import ObjectInfo
from producers.planning.discovery import discover
from producers.planning.tables import newest_metadata
from schemas.errors import ColumnError, InputUnreadable, MissingExtra, SchemaMismatch
from tests.unit.small_job import NOW_S, fake_settings, finish, prepare_small, score, submit

OLD = pa.table({"text": [f"old {n}" for n in range(200)], "day": ["1", None] * 100})
NEW = pa.table({"text": [f"new {n}" for n in range(190)], "day": ["2", None] * 95})


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """A table whose first 200 rows were overwritten by 190 others."""
    path = tmp_path / "delta"
    deltalake.write_deltalake(path, OLD, partition_by=["day"])
    deltalake.write_deltalake(path, NEW, partition_by=["day"], mode="overwrite")
    return path


@pytest.fixture
def iceberg(tmp_path: Path) -> Any:
    catalogue = SqlCatalog(
        "c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/warehouse"
    )
    catalogue.create_namespace("n")
    table = catalogue.create_table("n.t", schema=OLD.schema)
    table.append(OLD)
    table.overwrite(NEW)
    yield table
    catalogue.close()


def days_scored(folder: Path, out: Path) -> list[str | None]:
    """Scores the table; the days of the rows of the output, which are the new ones."""
    store, job = submit([folder], out, columns="text,day")
    score(store, job)
    table = pq.read_table(out / "data")
    assert {text[:3] for text in table["text"].to_pylist()} == {"new"}
    days: list[str | None] = table["day"].to_pylist()
    return days


def test_rows_that_were_overwritten_are_not_read(delta: Path, iceberg: Any, tmp_path: Path) -> None:
    folder = Path(iceberg.location().removeprefix("file://"))
    for number, table in enumerate((delta, folder)):
        days = days_scored(table, tmp_path / f"out{number}")
        assert sorted(days, key=str) == ["2"] * 95 + [None] * 95


def test_a_job_says_which_snapshot_it_reads_and_another_snapshot_is_another_job(
    delta: Path, tmp_path: Path
) -> None:
    first = prepare_small([delta], tmp_path / "out", fake_settings())
    assert f"{delta} is a Delta Lake table: version 1, 2 files" in first.warnings
    deltalake.write_deltalake(delta, NEW, mode="append")
    second = prepare_small([delta], tmp_path / "out", fake_settings())
    assert (first.inputs.rows, second.inputs.rows) == (190, 380)
    assert first.id != second.id


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_without_its_library_a_table_is_refused(
    kind: str, delta: Path, iceberg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = delta if kind == "delta" else Path(iceberg.location().removeprefix("file://"))
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("deltalake", "pyiceberg"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=rf"headrace\[{kind}\]"):
        prepare_small([folder], tmp_path / "out", fake_settings())


def test_a_table_is_not_read_from_outside_of_it(delta: Path, iceberg: Any, tmp_path: Path) -> None:
    for pattern in (delta / "**/*.parquet", tmp_path, Path(iceberg.location()[7:]).parent):
        with pytest.raises(InputUnreadable, match="that were deleted are not read"):
            prepare_small([pattern], tmp_path / "_out", fake_settings())


def test_a_folder_inside_a_table_is_not_read(delta: Path, iceberg: Any, tmp_path: Path) -> None:
    inner = Path(iceberg.location()[7:]) / "data"
    for pattern in (delta / "day=1", delta / "day=1/*.parquet", inner, inner / "*.parquet"):
        with pytest.raises(InputUnreadable, match="is a folder of the table"):
            prepare_small([pattern], tmp_path / "_out", fake_settings())
    files = [*delta.glob("day=1/*.parquet"), *inner.glob("*.parquet")]  # as a shell gives them
    assert len(files) >= 2
    for file in files:
        with pytest.raises(InputUnreadable, match="is a file of the table"):
            prepare_small([file], tmp_path / "_out", fake_settings())
    # a folder of that name outside of a table is any folder
    plain = tmp_path / "plain/day=1/data"
    plain.mkdir(parents=True)
    pq.write_table(OLD, plain / "a.parquet")
    assert prepare_small([plain], tmp_path / "_out", fake_settings()).inputs.rows == 200


@pytest.mark.parametrize("name", ["0.parquet", "z.parquet"])
def test_a_glob_across_tables_does_not_read_into_them(
    delta: Path, tmp_path: Path, name: str
) -> None:
    """The glob matches no file of the log, which comes before some files and after others."""
    pq.write_table(OLD, delta / name)
    (tmp_path / "other").mkdir()
    pq.write_table(OLD, tmp_path / "other/a.parquet")
    for pattern in ("*/*.parquet", "*/day=1/*.parquet", "d*/**/*.parquet"):
        with pytest.raises(InputUnreadable, match="delta is a table of its own"):
            prepare_small([tmp_path / pattern], tmp_path / "_out", fake_settings())
    assert prepare_small([tmp_path / "o*/*"], tmp_path / "_out", fake_settings()).inputs.rows == 200


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("delta_0000001_0000001_0000/000000_0", "base_0000002/000000_0"), "transactional table"),
        (
            ("day=1/base_0000001_v0000012/a.parquet", "day=1/base_0000003/a.parquet"),
            "transactional",
        ),
        (("ducklake-01977bd1-5a0b-7a3c-8f5e-0123456789ab.parquet",), "the data of a DuckLake"),
    ],
)
def test_several_states_of_one_table_are_not_read_together(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    for name in names:
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": [name]}), tmp_path / "t" / name)
    for pattern in (tmp_path / "t", tmp_path / "t/**/*"):
        with pytest.raises(InputUnreadable, match=words):
            prepare_small([pattern], tmp_path / "_out", fake_settings())
    if len(names) > 1:  # the one that counts may be named
        newest = (tmp_path / "t" / names[-1]).parent
        assert prepare_small([newest], tmp_path / "_out", fake_settings()).inputs.rows == 1


def test_metadata_under_its_older_name_shows_an_iceberg_table(iceberg: Any, tmp_path: Path) -> None:
    folder = Path(iceberg.location()[7:])
    for path in folder.glob("metadata/*.metadata.json"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(InputUnreadable, match="is an Iceberg table that cannot be read"):
        prepare_small([folder], tmp_path / "_out", fake_settings())


def test_what_the_files_alone_do_not_say_is_refused(iceberg: Any, tmp_path: Path) -> None:
    folder = Path(iceberg.location().removeprefix("file://"))
    with iceberg.update_schema() as change:
        change.rename_column("day", "weekday")
    with pytest.raises(InputUnreadable, match="renamed or replaced"):
        prepare_small([folder], tmp_path / "out", fake_settings())


def with_features(table: Path, *features: str, configuration: dict[str, str] | None = None) -> None:
    """Writes what Spark writes into the log when a feature is turned on."""
    log = table / "_delta_log"
    first = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    (meta,) = [line["metaData"] for line in first if "metaData" in line]
    names = [*features]
    protocol = {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": names, "writerFeatures": names,
    }  # fmt: skip
    lines = [
        {"protocol": protocol},
        {"metaData": meta | {"configuration": configuration or {}}},
        {"commitInfo": {"timestamp": 0, "operation": "SET TBLPROPERTIES"}},
    ]
    number = len(list(log.glob("*.json")))
    (log / f"{number:020}.json").write_text("\n".join(map(json.dumps, lines)))


def delete_by_vector(table: Path) -> None:
    """Marks a row of the first file as deleted, as Spark does it with deletion vectors."""
    log = table / "_delta_log"
    last = sorted(log.glob("*.json"))[-1]
    adds = [json.loads(x)["add"] for p in sorted(log.glob("*.json"))
            for x in p.read_text().splitlines() if '"add"' in x]  # fmt: skip
    add = adds[-1]
    vector = {"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
              "sizeInBytes": 40, "cardinality": 6}  # fmt: skip
    lines = [
        {"remove": {"path": add["path"], "deletionTimestamp": 0, "dataChange": True}},
        {"add": add | {"deletionVector": vector}},
        {"commitInfo": {"timestamp": 0, "operation": "DELETE"}},
    ]
    (log / f"{int(last.stem) + 1:020}.json").write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(
    ("features", "configuration"),
    [
        (("deletionVectors",), {"delta.enableDeletionVectors": "true"}),
        (("columnMapping",), {"delta.columnMapping.mode": "name"}),
        (("typeWidening",), {"delta.enableTypeWidening": "true"}),
    ],
    ids=["deletionVectors", "columnMapping", "typeWidening"],
)
def test_a_delta_table_with_what_its_files_do_not_say_is_refused(
    delta: Path, tmp_path: Path, features: tuple[str, ...], configuration: dict[str, str]
) -> None:
    with_features(delta, *features, configuration=configuration)
    if "deletionVectors" in features:
        delete_by_vector(delta)
    with pytest.raises(InputUnreadable) as refused:
        prepare_small([delta], tmp_path / "out", fake_settings())
    assert "is a Delta Lake table" in str(refused.value)
    assert features[0].lower() in str(refused.value).lower()


def test_rows_that_were_deleted_are_not_read(delta: Path, iceberg: Any, tmp_path: Path) -> None:
    deltalake.DeltaTable(delta).delete("day = '2'")
    assert prepare_small([delta], tmp_path / "a", fake_settings()).inputs.rows == 95
    iceberg.delete(EqualTo("day", "2"))
    folder = Path(iceberg.location().removeprefix("file://"))
    assert prepare_small([folder], tmp_path / "b", fake_settings()).inputs.rows == 95


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (".hoodie/hoodie.properties", "is a Hudi table"),
        ("snapshot/LATEST", "is a Paimon table"),
        ("_spark_metadata/0", "is the output of a Spark stream"),
    ],
)
def test_other_tables_whose_log_is_not_read_are_refused(
    tmp_path: Path, log: str, words: str
) -> None:
    table = tmp_path / "above" / "table"
    (table / log).parent.mkdir(parents=True)
    (table / log).write_text("1")
    for text in ("old", "new"):
        pq.write_table(pa.table({"text": [text]}), table / f"{text}.parquet")
    for settings in (fake_settings(), fake_settings(limit=1)):  # whose listing ends before the log
        with pytest.raises(InputUnreadable, match=words):
            prepare_small([table], tmp_path / "out", settings)
    with pytest.raises(InputUnreadable, match="that were deleted are not read"):
        prepare_small([table.parent], tmp_path / "out", fake_settings())
    glob = [table / "*.parquet"]
    if "Spark" in words:
        assert prepare_small(glob, tmp_path / "out", fake_settings()).inputs.rows == 2
    else:
        with pytest.raises(InputUnreadable, match=words):
            prepare_small(glob, tmp_path / "out", fake_settings())


class ListedStore(LocalStore):
    """A disk that keeps what it was asked to list."""

    listed: ClassVar[list[str]] = []

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.listed.append(prefix)
        return super().list(prefix)


def test_whether_a_folder_is_a_table_takes_two_requests_beside_the_listing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    ListedStore.listed.clear()
    assert [file.info.name for file in discover([str(tmp_path)], ListedStore)] == ["a.parquet"]
    assert ListedStore.listed == ["_delta_log/", "metadata/", ""]


def test_the_newest_metadata_is_the_one_with_the_highest_number() -> None:
    names = ["metadata/00002-a.metadata.json", "metadata/00010-b.metadata.json"]
    assert newest_metadata("t", names) == names[1]
    assert newest_metadata("t", ["metadata/v9.metadata.json", "metadata/v10.metadata.json"]) == (
        "metadata/v10.metadata.json"
    )
    with pytest.raises(InputUnreadable, match="several metadata files of number 2"):
        newest_metadata("t", [names[0], "metadata/00002-c.metadata.json"])


def test_a_table_is_verified_as_any_input(delta: Path, tmp_path: Path) -> None:
    from producers.verification.verify import verify

    store, job = submit([delta], tmp_path / "out", columns="day")
    score(store, job)
    finish(store, job)
    assert verify(store, fake_settings(), now_s=NOW_S).verdict == "verified"


def test_a_folder_of_an_iceberg_table_may_have_an_escape_in_its_name(tmp_path: Path) -> None:
    from pyiceberg.transforms import IdentityTransform

    catalogue = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/w")
    catalogue.create_namespace("n")
    rows = pa.table({"text": ["new a", "new b"], "day": ["a/b", "100%"]})
    table = catalogue.create_table("n.t", schema=rows.schema)
    with table.update_spec() as change:
        change.add_field("day", IdentityTransform(), "day")
    table.append(rows)
    folder = Path(table.location().removeprefix("file://"))
    assert any("%2F" in str(path) for path in folder.rglob("*.parquet"))
    assert sorted(map(str, days_scored(folder, tmp_path / "out"))) == ["100%", "a/b"]
    catalogue.close()


def with_deletes(table: Any, content: Any, **how: Any) -> None:
    """Adds a snapshot with a file of deletes, as Spark and Flink write them; pyiceberg does not."""
    from pyiceberg import manifest as m
    from pyiceberg.typedef import Record

    class Deletes(m.ManifestWriterV2):
        def content(self) -> m.ManifestContent:
            return m.ManifestContent.DELETES

    now, root = table.metadata, table.location().removeprefix("file://")
    data = next(iter(table.scan().plan_files())).file.file_path
    rows = {"file_path": [data], "pos": [0]} if not how else {"text": ["new 0"]}
    pq.write_table(pa.table(rows), f"{root}/data/deletes.parquet")
    number, after = 7, now.last_sequence_number + 1
    file = m.DataFile.from_args(
        content=content, file_path=f"{root}/data/deletes.parquet", file_format="PARQUET",
        partition=Record(), record_count=1, file_size_in_bytes=1, **how,
    )  # fmt: skip
    file.spec_id = 0
    entry = m.ManifestEntry.from_args(
        status=m.ManifestEntryStatus.ADDED, snapshot_id=number, data_file=file
    )
    out = table.io.new_output
    with Deletes(now.spec(), now.schema(), out(f"{root}/metadata/d.avro"), number, "null") as w:
        w.add_entry(entry)
    parent = now.current_snapshot()
    listed = out(f"{root}/metadata/snap-7.avro")
    with m.write_manifest_list(2, listed, number, parent.snapshot_id, after, "null") as manifests:
        manifests.add_manifests([*parent.manifests(table.io), w.to_manifest_file()])
    newest = Path(table.metadata_location.removeprefix("file://"))
    found = json.loads(newest.read_text())
    snapshot = found["snapshots"][-1] | {
        "snapshot-id": number, "parent-snapshot-id": parent.snapshot_id, "sequence-number": after,
        "manifest-list": f"{root}/metadata/snap-7.avro",
    }  # fmt: skip
    found |= {"current-snapshot-id": number, "last-sequence-number": after}
    found["snapshots"].append(snapshot)
    found["refs"]["main"]["snapshot-id"] = number
    (newest.parent / "00099-deletes.metadata.json").write_text(json.dumps(found))


@pytest.mark.parametrize("kind", ["position", "equality"])
def test_an_iceberg_table_with_files_of_deletes_is_refused(
    iceberg: Any, tmp_path: Path, kind: str
) -> None:
    from pyiceberg.manifest import DataFileContent

    folder = Path(iceberg.location().removeprefix("file://"))
    assert prepare_small([folder], tmp_path / "out", fake_settings()).inputs.rows == 190
    if kind == "position":
        with_deletes(iceberg, DataFileContent.POSITION_DELETES)
    else:
        with_deletes(iceberg, DataFileContent.EQUALITY_DELETES, equality_ids=[1])
    with pytest.raises(InputUnreadable, match=r"delete files|equality deletes"):
        prepare_small([folder], tmp_path / "out", fake_settings())


def test_an_iceberg_column_that_was_dropped_and_added_again_is_refused(
    iceberg: Any, tmp_path: Path
) -> None:
    """Its values in older files are dead, under the same name."""
    from pyiceberg.types import StringType

    with iceberg.update_schema() as change:
        change.delete_column("day")
    with iceberg.update_schema() as change:
        change.add_column("day", StringType())
    folder = Path(iceberg.location().removeprefix("file://"))
    with pytest.raises(InputUnreadable, match="'day' was renamed or replaced"):
        prepare_small([folder], tmp_path / "out", fake_settings())


def test_an_iceberg_column_that_older_files_lack_or_have_narrower_is_refused(
    tmp_path: Path,
) -> None:
    from pyiceberg.types import LongType, StringType

    catalogue = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/w")
    catalogue.create_namespace("n")
    rows = pa.table({"text": ["a"], "n": pa.array([1], pa.int32())})
    table = catalogue.create_table("n.t", schema=rows.schema)
    table.append(rows)
    with table.update_schema() as change:
        change.update_column("n", LongType())
        change.add_column("more", StringType())
    table.append(pa.table({"text": ["b"], "n": pa.array([2**40]), "more": ["x"]}))
    folder = Path(table.location().removeprefix("file://"))
    for column in ("n", "more"):
        with pytest.raises((SchemaMismatch, ColumnError), match=column):
            prepare_small([folder], tmp_path / "out", fake_settings(columns=column))
    assert prepare_small([folder], tmp_path / "out", fake_settings()).inputs.rows == 2
    catalogue.close()
