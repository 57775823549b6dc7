"""Reads labelled rows from the input files: the columns that a training needs, and text hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from headrace.formats.base import FAULT, Span
from headrace.formats.opener import InputOpener
from headrace.formats.text_column import as_bytes, plain_column
from headrace.settings import Settings
from headrace.storage.store import Store
from producers.planning.columns import ColumnRequest
from producers.planning.corpus import Corpus, read_corpus
from producers.planning.discovery import discover
from producers.planning.tables import table_reader
from producers.training.asked import Asked
from schemas.errors import ColumnError
from schemas.records.text_hash import text_hash
from schemas.training_tasks import JOB_TASKS


def read_labelled(
    settings: Settings, inputs: Sequence[str], asked: Asked, opened: Callable[[str], Store]
) -> tuple[pa.Table, tuple[int, int]]:
    """The wanted columns of all labelled rows, and how many are of `inputs` and of the
    validation file."""
    wanted = ColumnRequest(
        task=JOB_TASKS[asked.task], text=asked.tokens_column or settings.text_column,
        text_is_list=asked.tokens_column is not None, pair=settings.text_pair_column,
        id=settings.id_column, carried=(asked.label_column,) if asked.has_gold else (),
    )  # fmt: skip
    sources = [list(inputs)] + ([[asked.validation]] if asked.share is None else [])
    tables = []
    for patterns in sources:
        found = discover(
            patterns, opened, only=settings.pattern, literal=settings.literal,
            read_table=table_reader(settings),
        )  # fmt: skip
        corpus = read_corpus(tuple(patterns), found, wanted, settings.limit)
        tables.append(pa.Table.from_batches(list(_batches(corpus, wanted, opened))))
    sizes = [len(table) for table in tables]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ColumnError(
            f"{asked.validation} has other types of columns than the training rows: {error}"
        ) from error
    return table, (sizes[0], sum(sizes[1:]))


def _batches(
    corpus: Corpus, wanted: ColumnRequest, opened: Callable[[str], Store]
) -> Iterator[pa.RecordBatch]:
    """The rows of a corpus, with the wanted columns alone."""
    opener = InputOpener(opened)
    left = corpus.rows
    for found in corpus.files:
        parts = dict(found.file.partitions)
        names = [name for name in wanted.in_files if name not in parts]
        row = 0
        for unit in found.units:
            span = Span.of_unit(unit, row)
            row += unit.rows
            for batch in opener(found.file).read(span, names, corpus.types.planned):
                batch = batch.slice(0, left)
                left -= len(batch)
                if FAULT in batch.schema.names:
                    batch = batch.drop_columns([FAULT])
                for name in wanted.in_files:
                    if name in parts:
                        constant = pa.repeat(pa.scalar(parts[name], pa.string()), len(batch))
                        batch = batch.append_column(name, constant)
                yield batch.select(list(wanted.in_files))


def hashes_of(rows: pa.Table, text: str, pair: str | None) -> list[bytes | None]:
    """A hash of each row's text; None where a text is missing."""
    found: list[bytes | None] = []
    for batch in rows.to_batches():
        texts = as_bytes(plain_column(batch, text))
        if pair is None:
            found += [None if t is None else text_hash(t) for t in texts]
            continue
        pairs = as_bytes(plain_column(batch, pair))
        found += [
            None if t is None or p is None else text_hash(t, p)
            for t, p in zip(texts, pairs, strict=True)
        ]
    return found
