"""Jobs of the fake task over small corpora, for tests of all floors, and a check of their rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.formats.input_identity import files_digest
from headrace.formats.opener import etag_of
from headrace.output.plan_file import write_plan
from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import split_uri
from schemas.names import output_layout
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.job import (
    Inputs,
    Job,
    ModelRef,
    Options,
    Spec,
    job_id,
)
from schemas.records.manifest import Manifest
from workers.tasks.fake import digest_of

Text = str | bytes | None


@dataclass(frozen=True)
class FakeJob:
    """A job stored in its output, ready to be tracked by a controller."""

    job: Job
    store: Store
    texts: Sequence[Text]
    input: Path

    @property
    def id(self) -> str:
        return self.job.id

    def rows(self) -> list[dict[str, Any]]:
        """Every row of the output, part by part in their order."""
        names = sorted(i.name for i in self.store.list(output_layout.DATA))
        tables = [pq.read_table(pa.BufferReader(self.store.read(n))) for n in names]
        return [row for table in tables for row in _plain(table)]

    def manifest(self) -> Manifest | None:
        data = self.store.read(output_layout.MANIFEST)
        return None if data is None else Manifest.model_validate_json(data)

    def check(self, errors: dict[int, str] | None = None) -> list[dict[str, Any]]:
        """The rows, after a check that each is there once, in order, and is its own answer.

        `errors`: row number to error class, for the rows that must have failed; no other may.
        """
        rows = self.rows()
        assert [r["id"] for r in rows] == list(range(len(self.texts)))
        wrong = {r["id"]: r["error_type"] for r in rows if r["status"] != "ok"}
        assert wrong == (errors or {})
        for row, text in zip(rows, self.texts, strict=True):
            if row["status"] == "ok":
                assert isinstance(text, str)
                assert (row["digest"], row["length"]) == (digest_of(text), len(text))
        return rows


def _plain(table: pa.Table) -> list[dict[str, Any]]:
    columns = [
        c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns
    ]
    rows: list[dict[str, Any]] = pa.table(columns, names=table.column_names).to_pylist()
    return rows


def make_job(
    folder: Path,
    texts: Sequence[Text],
    *,
    chunk_rows: int = 100,
    output: str | None = None,
    params: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> FakeJob:
    """Write the corpus, the plan and the job, as a submission would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "corpus.parquet"
    write_corpus(path, texts, chunk_rows)
    s = load_settings(**(settings or {}))
    root, name = split_uri(str(path))
    found = etag_of(open_store(root, s), name, "parquet")
    assert found is not None
    file = InputFile(str(path), *found)
    chunks = [
        Chunk(
            n,
            (Piece(file, n, n + 1, 0, at, min(chunk_rows, len(texts) - at), 20 * chunk_rows),),
            at,
        )
        for n, at in enumerate(range(0, len(texts), chunk_rows))
    ]
    store = open_store(output or str(folder / "out"), s)
    plan = folder / f"plan-{time.monotonic_ns()}.parquet"
    write_plan(plan, chunks)
    store.create_from_file(output_layout.PLAN, plan)
    plan.unlink()
    job = _job(store, file, len(chunks), len(texts), params or {}, Options(**options))
    store.create(output_layout.JOB, job.model_dump_json().encode())
    return FakeJob(job, store, texts, path)


def write_corpus(path: Path, texts: Sequence[Text], group_rows: int) -> None:
    """A Parquet file with a column `text`; bytes go in as they are, valid UTF-8 or not."""
    raw = [t.encode() if isinstance(t, str) else t for t in texts]
    column = pa.Array.from_buffers(
        pa.string(), len(raw), pa.array(raw, pa.binary()).buffers(), raw.count(None)
    )
    pq.write_table(pa.table({"text": column}), path, row_group_size=group_rows)


def _job(
    store: Store, file: InputFile, chunks: int, rows: int, params: dict[str, Any], options: Options
) -> Job:
    digest = files_digest([file])
    spec = Spec(
        inputs_digest=digest,
        text_column="text",
        task="fake",
        params={"faults": True, **params},
        model=ModelRef(uri="none", revision="none"),
        dtype="float32",
    )
    return Job(
        id=job_id(spec),
        output=store.uri,
        spec=spec,
        options=options,
        inputs=Inputs(patterns=(file.uri,), digest=digest, files=1, rows=rows, bytes=file.size),
        id_type="int64",
        text_type="string",
        chunks=chunks,
        rows=rows,
        submitted_s=time.time(),
    )


def count_rows(folder: Path) -> int:
    """Rows of a folder of parts, as any Parquet reader counts them."""
    return int(ds.dataset(folder, format="parquet").count_rows())
