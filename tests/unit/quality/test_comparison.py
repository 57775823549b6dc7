"""Two outputs meet row by row, however each was cut, and equal texts count once."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.output.challenger_record import Challenger
from headrace.output.job_record import require_job
from headrace.storage.local import LocalStore
from producers.commands.quality.compare import read_gate
from producers.quality.comparison import compare
from producers.quality.cost import cost_of
from producers.quality.gold import Gold
from producers.quality.paired import Gate
from producers.terminal.comparison import as_json
from schemas.errors import ColumnError, ConfigError
from schemas.names import output_layout
from schemas.records.text_hash import share_limit, share_number, text_hash
from tests.unit.fake_output import write_fake_output
from tests.unit.quality.test_gold import output

ROWS: dict[str, list[Any]] = {
    "id": ["r0", "r1", "r2", "r3", "r4", "r5"],
    "gold": ["x", "x", "y", "y", None, "x"],
    "stars": [1, 1, 2, 2, 2, 1],
    "text": ["p", "q", "q", "s", "t", "u"],
}
A = ["x", "y", "y", "x", "x", None]
B = ["x", "x", "x", "x", "y", "x"]


def scored(folder: Path, labels: list[str | None], cuts: list[int]) -> LocalStore:
    """An output whose parts end before these rows."""
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(labels)], strict=True):
        part = {name: values[start:stop] for name, values in ROWS.items() if name != "text"}
        own = labels[start:stop]
        part["predicted_label"] = own
        part["score"] = [None if label is None else 0.5 + i / 20 for i, label in enumerate(own)]
        part["status"] = ["error" if label is None else "ok" for label in own]
        parts.append(part)
    store = output(folder, parts)
    for chunk, start in enumerate([0, *cuts]):
        name = output_layout.part(chunk)
        table = pq.read_table(io.BytesIO(store.read(name) or b""))
        texts = ROWS["text"][start : start + table.num_rows]
        hashes = pa.array([t.encode().ljust(16, b".") for t in texts], pa.binary(16))
        buffer = io.BytesIO()
        pq.write_table(table.append_column("text_hash", hashes), buffer)
        store.replace(name, buffer.getvalue())
    return store


@pytest.mark.parametrize("cuts", [([3], [3]), ([1, 4], [2]), ([5], [1, 2, 3])])
def test_rows_meet_whatever_the_parts(tmp_path: Path, cuts: tuple[list[int], list[int]]) -> None:
    a, b = scored(tmp_path / "a", A, cuts[0]), scored(tmp_path / "b", B, cuts[1])
    found = compare(a, b, gold=Gold("gold"), slices=["stars"])
    assert (found.rows, found.only_a_ok, found.only_b_ok) == (6, 0, 1)
    # r2 has r1's text and counts no more; r5 failed in A
    assert found.agreement.rows == 4
    assert [(f.before, f.after, f.rows) for f in found.agreement.flows] == [
        ("x", "y", 1), ("y", "x", 1),
    ]  # fmt: skip
    assert found.paired is not None
    paired = (found.paired.both, found.paired.only_a, found.paired.only_b, found.paired.neither)
    assert paired == (1, 0, 1, 1)
    assert {v: p.rows for v, p in found.slices["stars"].items()} == {"1": 2, "2": 1}
    assert {f.id for f in found.confident_flips} in ({"r1", "r4"}, {"r2", "r4"})  # the surer one
    shown = json.loads(json.dumps(as_json(found, ["no"])))
    assert (shown["texts"], shown["gate"]["passed"]) == (4, False)


@pytest.mark.parametrize("renamed", [False, True])
def test_gold_labels_of_a_file_are_those_of_a_column(tmp_path: Path, renamed: bool) -> None:
    a, b = scored(tmp_path / "a", A, [3]), scored(tmp_path / "b", B, [2])
    by_id = {k: g for k, g in zip(ROWS["id"], ROWS["gold"], strict=True) if g is not None}
    gold = Gold("gold", by_id)
    if renamed:
        gold = Gold(
            "gold", {k: {"x": "0", "y": "1"}[g] for k, g in by_id.items()}, {"0": "x", "1": "y"}
        )
    ours = compare(a, b, gold=gold, slices=["stars"])
    column = compare(a, b, gold=Gold("gold"), slices=["stars"])
    assert (ours.paired, ours.slices) == (column.paired, column.slices)
    record = as_json(ours, None)
    assert set(record["slices"]["stars"]["1"]) >= {"p_value", "p_corrected"}
    assert record["a"]["price_per_million_rows"] is None


def test_a_finished_output_says_what_it_cost(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path / "out", chunks=2, rows=100)
    job = require_job(store)
    cost = cost_of(store, job, price_per_hour=3.0)
    assert cost is not None
    assert cost.price == pytest.approx(3 * cost.worker_hours)
    assert cost_of(scored(tmp_path / "a", A, [3]), job) is None


def test_an_output_against_itself_has_no_flip(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", B, [2])
    found = compare(a, a)
    assert (found.agreement.flips.value, found.agreement.kappa) == (0.0, 1.0)
    assert found.confident_flips == []
    assert found.paired is None


def test_other_rows_are_refused_with_the_first_that_differs(tmp_path: Path) -> None:
    a, b = scored(tmp_path / "a", A, [3]), scored(tmp_path / "b", B, [3])
    name = output_layout.part(1)
    table = pq.read_table(io.BytesIO(b.read(name) or b""))
    buffer = io.BytesIO()
    pq.write_table(table.set_column(0, "id", pa.array(["r3", "zz", "r5"])), buffer)
    b.replace(name, buffer.getvalue())
    with pytest.raises(ConfigError, match="row 4 is r4 in A and zz in B"):
        compare(a, b)


def test_an_output_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    a, b = scored(tmp_path / "a", A, [3]), scored(tmp_path / "b", B, [3])
    b.delete(output_layout.part(1))
    with pytest.raises(ConfigError, match="has not finished"):
        compare(a, b)


def test_columns_that_are_missing_are_said(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", A, [3])
    with pytest.raises(ColumnError, match="has no column truth"):
        compare(a, a, gold=Gold("truth"))
    with pytest.raises(ConfigError, match="needs --label-column"):
        compare(a, a, slices=["stars"])


@pytest.mark.parametrize("cuts", [[], [2], [1, 4]])
def test_a_draw_is_the_same_each_time_and_knows_its_chance(tmp_path: Path, cuts: list[int]) -> None:
    a, b = scored(tmp_path / "a", A, cuts), scored(tmp_path / "b", B, cuts)
    one = compare(a, b, ask=1)
    assert ([f.id for f in one.drawn], one.chance) == (["r1"], 0.5)  # q, the smaller hash
    assert ([f.id for f in compare(a, b, ask=9).drawn], compare(a, b, ask=9).chance) == (
        ["r1", "r4"], 1.0,
    )  # fmt: skip
    assert (compare(a, a, ask=9).drawn, compare(a, a, ask=9).chance) == ([], 0.0)


def test_a_gate_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("min_accuracy_delta = -0.005\nmax_flips = 0.1\n[slices]\nstars = -0.02\n")
    assert read_gate(path) == Gate(-0.005, 0.1, {"stars": -0.02})
    for text, words in [
        ("min_acuracy = 1", "min_acuracy is not one of"),
        ('max_flips = "few"', "every value is a number"),
        ("slices = 3", "slices is a table"),
        ("= 1", "gate.toml"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_gate(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_gate(tmp_path / "none.toml")


def rows_of(store: LocalStore, table: pa.Table) -> None:
    """Make this the only part of the output."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.replace(output_layout.part(0), buffer.getvalue())


def test_a_challenger_is_compared_on_the_rows_that_it_got(tmp_path: Path) -> None:
    a, b = scored(tmp_path / "a", B, []), scored(tmp_path / "b", B, [])
    hashes = [text_hash(text.encode()) for text in ROWS["text"]]
    whole = pq.read_table(tmp_path / "a" / "data").drop_columns("text_hash")
    whole = whole.append_column("text_hash", pa.array(hashes, pa.binary(16)))
    rows_of(a, whole)
    share = sorted(map(share_number, hashes))[3] / (1 << 64)
    drawn = [i for i, digest in enumerate(hashes) if share_number(digest) < share_limit(share)]
    assert 0 < len(drawn) < 6
    rows_of(b, whole.take(pa.array(drawn)))
    with pytest.raises(ConfigError, match="not of the same rows"):
        compare(a, b)
    record = Challenger(job=require_job(a).id, output=a.uri, share=share, rows=len(drawn))
    b.create(output_layout.CHALLENGER, record.model_dump_json().encode())
    assert compare(a, b).rows == len(drawn)
    other = record.model_copy(update={"job": "0" * 16})
    b.replace(output_layout.CHALLENGER, other.model_dump_json().encode())
    with pytest.raises(ConfigError, match="challenger on rows of job 0000"):
        compare(a, b)
