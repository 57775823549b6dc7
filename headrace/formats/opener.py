"""Opens input files by their URI, checks their identity, and reads the rows of chunks.

Nothing else opens them. The formats are in `catalog`, behind the port in `base`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace.formats.base import Request, RowReader, Scan, Span
from headrace.formats.catalog import FORMATS, HEAD_BYTES, READ_AS, by_content, by_name
from headrace.formats.input_identity import has_same_bytes
from headrace.formats.template import columns_of, parse_template, with_texts
from headrace.storage.kept_objects import KeptObjects
from headrace.storage.s3_file import SMALL_BYTES
from headrace.storage.store import ObjectInfo, Store
from headrace.storage.uri import split_uri
from schemas.errors import InputChanged, InputUnreadable
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.job import Spec
from schemas.records.text_source import template_in

OpenStore = Callable[[str], Store]
"""Opens the store at a URI; `headrace.storage.open.open_store` with its settings bound."""

OpenFile = Callable[[InputFile], RowReader]
"""Opens an input file to read its rows; an `InputOpener` is one."""


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A listed file after it was scanned: its identity and what a plan needs."""

    size: int
    etag: str
    scan: Scan


def scan_file(
    store: Store, info: ObjectInfo, request: Request, kept: KeptObjects | None = None
) -> ScannedFile:
    """A listed file, scanned in the format that its name says, else its first bytes.

    A small object, which is read whole at once, is added to `kept`.

    Raises:
        InputUnreadable: no format that is read here, cut short, or encrypted: says which.
        StorageError: the store does not answer.
    """
    try:
        with store.open(info.name, info) as file:
            scan = FORMATS[_format_of(info, file, request.where)].scan(file, info.size, request)
            if kept is not None and store.has_etag and info.size <= SMALL_BYTES:
                file.seek(0)
                kept.add((request.where, info.size, info.etag), bytes(file.read()))
    except FileNotFoundError as error:
        raise InputUnreadable(f"{request.where} went away while it was being read") from error
    except InputChanged as error:  # an object that was listed, and is another one or gone
        raise InputUnreadable(
            f"{request.where} changed or went away while it was being read"
        ) from error
    return ScannedFile(info.size, _etag(store, info, scan.fingerprint), scan)


def etag_of(store: Store, name: str, file_format: str) -> tuple[int, str] | None:
    """Size and etag of an input file as it is now; None when there is none.

    On S3 this is one HEAD; on a disk, a stat and a read of the file's ends. The etag of a file on a
    disk is `mtime_ns-size-` and the first 16 hex digits of the sha256 of what `Format.fingerprint`
    reads. So a file is recognized as replaced even if size and time are the same.

    Raises:
        InputUnreadable: a file on a disk that no longer has the format, or no rights.
        StorageError: the store does not answer.
    """
    info = store.head(name)
    if info is None:
        return None
    if store.has_etag:
        return info.size, info.etag
    where = f"{store.uri.rstrip('/')}/{name}"
    try:
        with store.open(name) as file:
            finger = FORMATS[file_format].fingerprint(file, info.size, where)
    except FileNotFoundError as error:
        raise InputUnreadable(f"{where} went away while it was being read") from error
    return info.size, _etag(store, info, finger)


class InputOpener:
    """Opens input files; keeps the store of the last folder and the last open file.

    Thread-safe. The last file keeps its read position: see `headrace.formats.streams`.
    """

    def __init__(self, open_store: OpenStore, kept: KeptObjects | None = None) -> None:
        self._open_store = open_store
        self._kept = kept or KeptObjects(0)
        self._store: tuple[str, Store] | None = None
        self._last: tuple[tuple[str, int, str], RowReader] | None = None
        self._touched: tuple[str, tuple[int, str], bool] = ("", (0, ""), False)
        self._lock = threading.Lock()

    def __call__(self, file: InputFile) -> RowReader:
        """A reader of the file's rows; checks only that the file can be opened.

        Raises:
            InputUnreadable: it is gone, or not what its format says.
            StorageError: the store does not answer.
        """
        key = (file.uri, file.size, file.etag)
        with self._lock:
            if self._last is not None and self._last[0] == key:
                return self._last[1]
        store, name = self.place(file.uri)
        reader = self._read(store, name, file)
        with self._lock:
            self._last = key, reader  # a previous reader may be in use: it closes when freed
        return reader

    def unchanged(self, file: InputFile) -> RowReader:
        """The same, after checking that the file is the planned one.

        Raises:
            InputChanged: the file is gone, or another file has its name.
        """
        store, name = self.place(file.uri)
        if store.has_etag:
            return self._object(file)
        now = etag_of(store, name, file.format)
        if now != (file.size, file.etag) and not self._is_only_touched(store, name, file, now):
            raise _changed(file)
        return self(file)

    def _object(self, file: InputFile) -> RowReader:
        """An object: every read of it is of the planned one, and opening it reads."""
        try:
            return self(file)
        except InputChanged as error:
            raise _changed(file) from error

    def _is_only_touched(
        self, store: Store, name: str, file: InputFile, now: tuple[int, str] | None
    ) -> bool:
        """Whether all bytes are the planned ones; the answer for the last file is kept."""
        if now is None:
            return False
        if self._touched[:2] != (file.uri, now):
            self._touched = (file.uri, now, has_same_bytes(store, name, file, now))
        return self._touched[2]

    def place(self, uri: str) -> tuple[Store, str]:
        """The store of the file's folder, and its name there."""
        root, name = split_uri(uri)
        with self._lock:
            if self._store is None or self._store[0] != root:
                self._store = root, self._open_store(root)
            return self._store[1], name

    def _read(self, store: Store, name: str, file: InputFile) -> RowReader:
        import pyarrow as pa

        try:
            data = self._kept.find((file.uri, file.size, file.etag))
            known = ObjectInfo(name, file.size, file.etag, 0.0)
            source = store.open(name, known) if data is None else pa.BufferReader(data)
            return MadeTexts(FORMATS[file.format].open(source, file.size))
        except (pa.ArrowException, OSError, ValueError) as error:
            # Arrow's message may contain text of the corpus
            kind = type(error).__name__
            raise InputUnreadable(f"{file.uri} cannot be read as {file.format}: {kind}") from error


def _changed(file: InputFile) -> InputChanged:
    return InputChanged(
        f"{file.uri} is not the file that was planned: put it back, or submit a new job"
    )


class MadeTexts:
    """A reader that also gives texts made of columns, see `schemas.records.text_source`."""

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader

    @property
    def rows(self) -> int | None:
        return self._reader.rows

    def read(
        self, span: Span, columns: Sequence[str], types: Any = None, batch_rows: int = 8_192
    ) -> Iterator[Any]:
        made = {name: template_in(name) for name in columns}
        templates = {name: parse_template(t) for name, t in made.items() if t is not None}
        if not templates:
            return self._reader.read(span, columns, types, batch_rows)
        stored = dict.fromkeys(column for name in columns for column in columns_of(name))
        batches = self._reader.read(span, list(stored), types, batch_rows)
        names = list(dict.fromkeys(columns))
        return (with_texts(batch, names, templates) for batch in batches)

    def close(self) -> None:
        self._reader.close()


class PieceRows(NamedTuple):
    """Neighbouring rows of a piece, as a `pyarrow.RecordBatch`."""

    piece: Piece
    first_row: int
    """Row number of the first of them within the file."""
    batch: Any


def chunk_rows(
    open_file: OpenFile, chunk: Chunk, spec: Spec, types: Any, batch_rows: int
) -> Iterator[PieceRows]:
    """Batches of the chunk's rows with the columns that the job reads; see `RowReader.read`.

    Ends with the first file that has fewer rows than planned.
    """
    for piece in chunk.pieces:
        at = 0
        for found in piece_rows(open_file, piece, spec, types, batch_rows):
            yield found
            at += found.batch.num_rows
        if at < piece.rows:
            return


def piece_rows(
    open_file: OpenFile, piece: Piece, spec: Spec, types: Any, batch_rows: int
) -> Iterator[PieceRows]:
    """Batches of one piece's rows, never more than it has; fewer where the file ends early."""
    at = 0
    reader = open_file(piece.file)
    for batch in reader.read(span_of(piece), file_columns(spec, piece), types, batch_rows):
        rows = batch.slice(0, piece.rows - at)
        yield PieceRows(piece, piece.first_row + at, rows)
        at += rows.num_rows
        if at >= piece.rows:
            return


def span_of(piece: Piece) -> Span:
    """What to read of the file."""
    return Span(piece.start, piece.stop, piece.skip, piece.first_row, piece.rows)


def file_columns(spec: Spec, piece: Piece) -> list[str]:
    """The columns to read, each once; partition columns come from the path."""
    wanted = [spec.text_source, spec.pair_source, spec.id_column, *spec.columns]
    partitions = dict(piece.file.partitions)
    return list(dict.fromkeys(n for n in wanted if n and n not in partitions))


def first_bytes(store: Store, name: str) -> bytes:
    """The first `HEAD_BYTES` bytes of a file; empty if the file is gone.

    Raises:
        StorageError: the store does not answer.
    """
    try:
        with store.open(name) as file:
            return bytes(file.read(HEAD_BYTES))
    except FileNotFoundError:
        return b""


def _format_of(info: ObjectInfo, file: Any, where: str) -> str:
    named = by_name(info.name)
    if named is not None:
        return named
    found = by_content(bytes(file.read(HEAD_BYTES)))
    if found is None:
        raise InputUnreadable(
            f"{where} is neither Parquet nor JSON Lines, by its name or its first bytes; headrace "
            f"reads {READ_AS}"
        )
    return found


def _etag(store: Store, info: ObjectInfo, finger: bytes) -> str:
    if store.has_etag:
        return info.etag
    return f"{info.etag}-{hashlib.sha256(finger).hexdigest()[:16]}"
