"""Which rows of a part are errors, and how they are counted, in one place."""

from __future__ import annotations

from workers.pipeline.rows import NULL_TEXT, ChunkStats, RowError, error_columns

TOO_LONG = RowError("out_of_memory", "the device has no memory for this one row")


def test_the_columns_of_errors_say_which_rows_and_why() -> None:
    found = error_columns(3, {1: NULL_TEXT, 2: TOO_LONG}, "trace")
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "status": ["ok", "error", "error"],
        "error_type": [None, "null_text", "out_of_memory"],
        "error_message": [None, NULL_TEXT.message, TOO_LONG.message],
        "trace_id": [None, "trace", "trace"],
    }


def test_without_errors_all_rows_are_ok() -> None:
    found = error_columns(2, {}, "trace")
    assert found["status"].to_pylist() == ["ok", "ok"]
    assert all(found[name].null_count == 2 for name in found if name != "status")
    assert len(error_columns(0, {}, None)["status"]) == 0


def test_rows_are_counted_as_ok_or_by_their_error() -> None:
    stats = ChunkStats()
    stats.count_rows(4, [NULL_TEXT, TOO_LONG])
    stats.count_rows(2, [NULL_TEXT])
    assert (stats.rows, stats.ok, stats.errors) == (6, 3, 3)
    assert stats.errors_by_type == {"null_text": 2, "out_of_memory": 1}
