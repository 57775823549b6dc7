"""Each kind of bad input has its own error, exit code and helpful message, before any write."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from schemas.errors import ExitCode, HeadraceError
from tests.unit.small_job import fake_settings, prepare_small, score, submit, write_input

Damage = Callable[[Path], object]


def refused(inputs: Any, output: Path, **flags: Any) -> HeadraceError:
    """The error of a submission, which leaves no output behind."""
    with pytest.raises(HeadraceError) as caught:
        prepare_small(
            [inputs] if isinstance(inputs, Path) else inputs, output, fake_settings(**flags)
        )
    assert not output.exists()
    return caught.value


def without_privileges(command: str, *args: object) -> subprocess.CompletedProcess[str]:
    """A command of `headrace` as a user runs it: root leaves behind its right to any file."""
    as_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    code = "import sys; from producers.cli import main; sys.exit(main())"
    return subprocess.run(
        [*(as_user if os.geteuid() == 0 else ()), sys.executable, "-c", code, command,
         *map(str, args), "--task", "fake", "--text-column", "text"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def expect(error: HeadraceError, code: ExitCode, *words: str) -> None:
    assert error.exit_code == code
    for word in words:
        assert word in str(error)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_input(tmp_path / "in/good.parquet", ["a"] * 20, stars=list(range(20)))


# -- nothing there


def test_a_path_that_does_not_exist(tmp_path: Path, out: Path) -> None:
    expect(refused(tmp_path / "no", out), ExitCode.INPUT_NOT_FOUND, f"{tmp_path}/no does not exist")


def test_a_folder_without_files_of_a_known_format(tmp_path: Path, out: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("a,b")
    expect(refused(tmp_path / "in", out), ExitCode.INPUT_NOT_FOUND, ".parquet", "JSON Lines")


def test_a_glob_that_matches_nothing(tmp_path: Path, out: Path) -> None:
    expect(refused(tmp_path / "*.parquet", out), ExitCode.INPUT_NOT_FOUND, "no file matches")


def test_a_date_that_has_no_data(tmp_path: Path, out: Path) -> None:
    expect(refused(tmp_path / "{date}", out), ExitCode.INPUT_NOT_FOUND, "does not exist")


def test_one_of_several_inputs_that_is_missing(good: Path, tmp_path: Path, out: Path) -> None:
    expect(refused([good, tmp_path / "no"], out), ExitCode.INPUT_NOT_FOUND, "no does not exist")


def test_files_without_a_row(tmp_path: Path, out: Path) -> None:
    write_input(tmp_path / "in/a.parquet", [])
    expect(refused(tmp_path / "in", out), ExitCode.INPUT_NOT_FOUND, "no rows")


# -- not Parquet, cut short, encrypted


def cut(share: float) -> Damage:
    return lambda p: p.write_bytes(p.read_bytes()[: int(p.stat().st_size * share)])


def absurd_footer(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1")


def garbage_footer(path: Path) -> None:
    data = bytearray(path.read_bytes())
    length = struct.unpack("<I", data[-8:-4])[0]
    data[-8 - length : -8] = os.urandom(length)
    path.write_bytes(bytes(data))


def without_its_middle(path: Path) -> None:
    data = path.read_bytes()
    footer = struct.unpack("<I", data[-8:-4])[0] + 8
    path.write_bytes(data[:4] + data[-footer:])


class _NoKms(encryption.KmsClient):  # type: ignore[misc]
    """Wraps keys by doing nothing: enough for a file that headrace must refuse."""

    def __init__(self, config: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, master: str) -> str:
        return key.hex()

    def unwrap_key(self, wrapped: str, master: str) -> bytes:
        return bytes.fromhex(wrapped)


def encrypted(plaintext_footer: bool, column: str = "text") -> Damage:
    def write(path: Path) -> None:
        config = encryption.EncryptionConfiguration(
            footer_key="footer",
            column_keys={"key": [column]},
            plaintext_footer=plaintext_footer,
            cache_lifetime=timedelta(minutes=5),
        )
        factory = encryption.CryptoFactory(_NoKms)
        keys = factory.file_encryption_properties(encryption.KmsConnectionConfig(), config)
        table = pa.table({"id": ["1", "2"], "text": ["a", "b"], "note": ["c", "d"]})
        with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
            writer.write_table(table)

    return write


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda p: p.write_text("id,text\n1,not parquet\n"), "is not Parquet"),
        (lambda p: p.write_bytes(b""), "is not Parquet"),
        (lambda p: p.write_bytes(b"PAR1"), "is not Parquet"),
        (cut(0.5), "is cut short"),
        (cut(0.99), "is cut short"),
        (absurd_footer, "cut short or damaged"),
        (garbage_footer, "is damaged"),
        (without_its_middle, "is cut short"),
        (encrypted(plaintext_footer=False), "is encrypted"),
        (encrypted(plaintext_footer=True), "is encrypted"),
    ],
    ids=["csv", "empty", "magic", "half", "tail", "absurd", "garbage", "middle", "enc", "enc-col"],
)
def test_a_file_that_is_not_whole_parquet_is_named(
    tmp_path: Path, out: Path, damage: Damage, word: str
) -> None:
    write_input(tmp_path / "in/a.parquet", ["fine"] * 100)
    broken = write_input(tmp_path / "in/b.parquet", [f"text {i} {i * i}" for i in range(300)])
    damage(broken)
    expect(refused(tmp_path / "in", out), ExitCode.INPUT_UNREADABLE, str(broken), word)


def test_an_encrypted_column_matters_only_to_who_reads_it(tmp_path: Path) -> None:
    """pyarrow ended the worker's process when it was asked for the size of the other column."""
    encrypted(plaintext_footer=True, column="note")(tmp_path / "in.parquet")
    for flags in ({"columns": "note"}, {"id_column": "note"}):
        error = refused(tmp_path / "in.parquet", tmp_path / "out", **flags)
        expect(error, ExitCode.INPUT_UNREADABLE, "columns that are read needs a key")
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out")
    score(store, job)
    assert pq.read_table(tmp_path / "out/data")["status"].to_pylist() == ["ok", "ok"]


def test_a_file_without_rights(good: Path, out: Path) -> None:
    good.chmod(0)
    done = without_privileges("plan", good, "--output", out)
    assert done.returncode == ExitCode.INPUT_UNREADABLE
    assert "rights" in done.stderr
    assert not out.exists()


# -- schemas and columns


def test_files_whose_schemas_differ_name_both_and_the_column(good: Path, out: Path) -> None:
    other = write_input(good.parent / "other.parquet", ["b"], stars=["many"])
    error = refused(good.parent, out, columns="stars")
    expect(error, ExitCode.SCHEMA_MISMATCH, str(good), str(other), "'stars'", "int64", "string")


def test_a_column_that_only_some_files_have(good: Path, out: Path) -> None:
    write_input(good.parent / "other.parquet", ["b"])
    error = refused(good.parent, out, columns="stars")
    expect(error, ExitCode.SCHEMA_MISMATCH, "missing in", "'stars'")


def test_unused_columns_may_differ(good: Path, out: Path) -> None:
    write_input(good.parent / "other.parquet", ["b"], stars=["many"])
    assert prepare_small([good.parent], out, fake_settings()).inputs.rows == 21


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        ({"text_column": "body"}, "--text-column"),
        ({"text_pair_column": "body"}, "--text-pair-column"),
        ({"id_column": "body"}, "--id-column"),
        ({"columns": "stars,body"}, "--columns"),
    ],
)
def test_a_missing_column_lists_those_that_there_are(
    good: Path, out: Path, flags: dict[str, str], flag: str
) -> None:
    listed = "id (string), text (string), stars (int64)"
    expect(refused(good, out, **flags), ExitCode.COLUMN, "'body'", flag, listed)


@pytest.mark.parametrize("name", ["stars", "words"])
def test_a_column_that_is_not_text_says_its_type(tmp_path: Path, out: Path, name: str) -> None:
    columns = {"stars": [1], "words": [["a", "b"]]}
    path = write_input(tmp_path / "a.parquet", ["x"], **columns)
    error = refused(path, out, text_column=name)
    expect(error, ExitCode.COLUMN, "not text", "text (string)", f"{name} (")


def test_a_partition_cannot_be_the_text(tmp_path: Path, out: Path) -> None:
    write_input(tmp_path / "in/day=1/a.parquet", ["x"])
    error = refused(tmp_path / "in", out, text_column="day")
    expect(error, ExitCode.COLUMN, "is a partition", "day (partition)")


def test_an_id_of_lists_is_refused(tmp_path: Path, out: Path) -> None:
    path = write_input(tmp_path / "a.parquet", ["x"], words=[["a"]])
    expect(refused(path, out, id_column="words"), ExitCode.COLUMN, "id column 'words' is list")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"columns": "stars,stars"}, "'stars' twice"),
        ({"columns": "stars,STARS"}, "'stars' twice"),
        ({"columns": "status"}, "'status' has the name of a column that fake writes"),
        ({"columns": "Error_Type"}, "'Error_Type' has the name"),
        ({"columns": "digest"}, "'digest' has the name of a column that fake writes"),
        ({"columns": "id"}, "make it the id column with --id-column"),
        ({"columns": "id", "id_column": "id"}, "is the id column already"),
        ({"id_column": "text_hash"}, "the id column 'text_hash' has the name"),
    ],
)
def test_columns_that_collide_are_refused(
    good: Path, out: Path, flags: dict[str, str], words: str
) -> None:
    expect(refused(good, out, **flags), ExitCode.COLUMN, words)


def test_a_column_that_the_file_has_twice(tmp_path: Path, out: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    expect(refused(tmp_path / "a.parquet", out), ExitCode.COLUMN, "2 columns named 'text'")


# -- ids: a warning, with a count


def test_duplicate_ids_are_said_once_with_a_count(tmp_path: Path, out: Path) -> None:
    path = write_input(tmp_path / "a.parquet", ["x"] * 5, id=["a", "b", "a", "a", None])
    prepared = prepare_small([path], out, fake_settings(id_column="id"))
    duplicates, nulls = prepared.warnings
    assert "2 of 5 rows" in duplicates
    assert "1 of 5 rows have no id" in nulls


# -- settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"task": "telepathy"}, "tasks: choice, fake, feature-extraction, "),
        ({"task": "feature-extraction", "text_pair_column": "id"}, "--text-pair-column"),
    ],
)
def test_settings_without_meaning(good: Path, out: Path, flags: Any, words: str) -> None:
    expect(refused(good, out, **flags), ExitCode.CONFIG, words)


def test_an_output_inside_its_input(good: Path) -> None:
    error = refused(good.parent, good.parent / "out")
    expect(error, ExitCode.CONFIG, "inside the input")


def test_an_input_outside_the_allowed_prefixes(good: Path, out: Path) -> None:
    error = refused(good, out, allowed_prefixes=f"{out},/nowhere")
    expect(error, ExitCode.URI_NOT_ALLOWED)


# -- the model


def test_a_model_that_is_missing(good: Path, out: Path, tmp_path: Path) -> None:
    for model in (None, str(tmp_path / "nothing")):
        error = refused(good, out, task="text-classification", model=model)
        expect(error, ExitCode.MODEL)


# -- the output


def test_an_output_that_holds_another_job_names_both_and_what_differs(
    good: Path, out: Path
) -> None:
    _, job = submit([good], out)
    with pytest.raises(HeadraceError) as caught:
        submit([good], out, text_column="id", columns="stars", max_length=9)
    expect(
        caught.value, ExitCode.OUTPUT_CONFLICT, job.id, "text_column: text → id",
        "columns: none → stars", "max_length: none → 9",
    )  # fmt: skip


def test_an_output_that_cannot_be_written(good: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder must be")
    with pytest.raises(HeadraceError) as caught:
        submit([good], tmp_path / "file/out")
    assert caught.value.exit_code == ExitCode.OUTPUT_NOT_WRITABLE


def test_an_output_without_rights(good: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    done = without_privileges("run", good, "--output", tmp_path / "closed/out")
    assert done.returncode == ExitCode.OUTPUT_NOT_WRITABLE
    assert "rights" in done.stderr
