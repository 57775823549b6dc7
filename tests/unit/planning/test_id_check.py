"""Duplicate ids are counted over the id column alone, up to a bound."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace.formats.opener import InputOpener
from headrace.storage.open import open_store
from producers.planning.chunking import FileRows
from producers.planning.id_check import IdReport, check_ids
from schemas.errors import InputUnreadable
from schemas.records.chunk import InputFile
from tests.unit.small_job import fake_settings, write_input
from tests.units import of_rows

open_from = partial(open_store, settings=fake_settings())


def corpus(tmp_path: Path, *columns: Any) -> list[FileRows]:
    files = []
    for number, ids in enumerate(columns):
        path = write_input(tmp_path / f"{number}.parquet", ["x"] * len(ids), id=ids, group_rows=3)
        units = of_rows(min(3, len(ids) - at) for at in range(0, len(ids), 3))
        files.append(FileRows(InputFile(str(path), path.stat().st_size, str(number)), units))
    return files


def check(files: list[FileRows], **more: Any) -> IdReport:
    rows = sum(g.rows for f in files for g in f.units)
    return check_ids(files, "id", rows, InputOpener(open_from), **more)


@pytest.mark.parametrize(
    ("columns", "duplicates", "nulls"),
    [
        ([["a", "b"], ["c"]], 0, 0),
        ([["a", "b"], ["a"]], 1, 0),
        ([["a", "a", "a"], ["a", None, None]], 3, 2),
        ([[1, 2, 3, 4], [4, 5]], 1, 0),
        (
            [pa.array(["a", "b", "a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()],
            2,
            0,
        ),
        ([[-1, -2, 2**62, 2**61 + 2**60]], 0, 0),
        ([[b"a", b"b", b"a", None]], 1, 1),
        ([pa.array([1.5, 1.5, -0.5])], 1, 0),
        ([pa.array(["a", "b", "a"], pa.large_string()), pa.array(["b"], pa.large_string())], 2, 0),
    ],
)
def test_duplicates_are_counted_across_files(
    tmp_path: Path, columns: Any, duplicates: int, nulls: int
) -> None:
    report = check(corpus(tmp_path, *columns))
    assert (report.checked, report.duplicates, report.nulls) == (True, duplicates, nulls)
    assert len(report.warnings("id")) == bool(duplicates) + bool(nulls)


def test_ids_that_cannot_be_compared_are_said_not_to_be_checked(tmp_path: Path) -> None:
    report = check(corpus(tmp_path, pa.array([[1], [2]])))
    assert (report.checked, report.reason) == (
        False,
        "values of type list<element: int64> cannot be compared",
    )


def test_rows_beyond_the_limit_are_not_looked_at(tmp_path: Path) -> None:
    files = corpus(tmp_path, ["a", "b", "c", "d"], ["a", "b"])
    assert check(files, limit=4).duplicates == 0
    assert check(files, limit=5).duplicates == 1
    assert check(files, limit=5).rows == 5


def test_too_many_rows_are_said_not_to_be_checked(tmp_path: Path) -> None:
    report = check(corpus(tmp_path, ["a", "a"]), most=1)
    assert not report.checked
    assert report.warnings("id") == [
        "ids in 'id' were not checked for duplicates: 2 rows; up to 1 are"
    ]


def test_a_file_that_changed_under_us_is_unreadable(tmp_path: Path) -> None:
    files = corpus(tmp_path, ["a"])
    Path(files[0].file.uri).write_bytes(b"PAR1 no more")
    with pytest.raises(InputUnreadable, match=r"0\.parquet"):
        check(files)
