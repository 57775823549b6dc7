"""Reads a batch file line by line and writes its texts as Parquet, in constant memory.

A line may have several texts. Each is a row with the number of its line, so that the answers can be
put together again: `custom_id`, `line` (from 1), `text`. Where a model writes the answers, `settings` has
what the line asks for of its own, as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.gateway.batches.chat import SOURCE, difference, own_of
from producers.gateway.batches.line_faults import BadLine
from producers.gateway.batches.requests import Line, parse_line
from producers.gateway.batches.seen_ids import SeenIds
from producers.gateway.records import Checked, Endpoint, LineError

FAULTS = "faults"
"""The name of the file of faults: JSON lines, in the order of the lines."""
KEPT_ERRORS = 100
GROUP_ROWS = 8_192
"""Rows per row group. Chosen: small enough to stay in constant memory with long texts."""
GROUP_BYTES = 32_000_000
BLOCK_BYTES = 1 << 20
MOST_LINE_BYTES = 16_000_000
TOO_LONG = b"\0"
"""Marks a line above that size; it is not JSON."""


def check_lines(file: Any, endpoint: Endpoint, path: Path, may_vary: bool = True) -> Checked:
    """Check the lines of `file` and write their texts to `path`, and beside it the lines' own faults.

    `may_vary`: lines may have settings of their own, which not every engine takes.
    Blank lines are skipped. If any line is wrong, or all have faults, ignore the written files.
    """
    found = _Found(may_vary)
    with _Rows(path, endpoint in SOURCE) as rows, path.with_name(FAULTS).open("wb") as faults:
        for number, data in lines_of(file):
            found.lines += 1
            try:
                line = parse_line(data, endpoint)
                found.note(line, number)
            except BadLine as error:
                found.refuse(error.at(number))
                continue
            fault = line.fault or found.differs(line)
            if fault is None:
                rows.add(number, line)
            else:
                faults.write(fault_line(line.custom_id, found.spare(fault, number)))
    for repeated in found.repeated():
        found.refuse(repeated)
    found.refuse_if_none_is_left(rows.count)
    if not found.lines:
        found.refuse(LineError(code="empty_file", line=None, message="The file has no lines"))
    model, form, width = found.same or (None, "float", None)
    errors = sorted(found.errors, key=lambda error: error.line or 0)
    return Checked(
        at_s=time.time(), lines=found.lines, rows=rows.count, model=model, encoding_format=form,
        dimensions=width, errors=tuple(errors), error_count=found.error_count,
        faults=found.fault_count, generation=found.generation or {}, varies=found.varies,
    )  # fmt: skip


def fault_line(custom_id: str, fault: LineError) -> bytes:
    """A line of the file of faults."""
    return json.dumps({"custom_id": custom_id, **fault.model_dump()}).encode() + b"\n"


def lines_of(file: Any) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line that is not blank; `TOO_LONG` for a line over the limit."""
    rest, number, is_too_long = b"", 0, False
    while block := file.read(BLOCK_BYTES):
        *ends, tail = block.split(b"\n")
        for end in ends:
            number += 1
            line = TOO_LONG if is_too_long else rest + end
            rest, is_too_long = b"", False
            if line.strip():
                yield number, line
        rest += tail
        if len(rest) > MOST_LINE_BYTES:
            rest, is_too_long = b"", True
    line = TOO_LONG if is_too_long else rest
    if line.strip():
        yield number + 1, line


class _Found:
    """What must be equal on all lines, and their ids."""

    def __init__(self, may_vary: bool) -> None:
        self._may_vary = may_vary
        self.lines = 0
        self.same: tuple[str, str, int | None] | None = None
        self.errors: list[LineError] = []
        self.error_count = 0
        self.generation: dict[str, Any] | None = None
        """What the first line without a fault asks for."""
        self.varies = False
        """Whether lines ask for settings of their own."""
        self.fault_count = 0
        self._faults: list[LineError] = []
        self._ids = SeenIds()

    def differs(self, line: Line) -> BadLine | None:
        """Why this line cannot be answered beside the first; None: it can."""
        if self.generation is None:
            self.generation = line.generation
        fault = difference(line.generation, self.generation, self._may_vary)
        if fault is None and own_of(line.generation) != own_of(self.generation):
            self.varies = True
        return fault

    def spare(self, fault: BadLine, number: int) -> LineError:
        """Count a line that alone has no answer."""
        self.fault_count += 1
        found = fault.at(number)
        if len(self._faults) < KEPT_ERRORS:
            self._faults.append(found)
        return found

    def refuse_if_none_is_left(self, rows: int) -> None:
        """Refuse the file if no line can be answered."""
        if not rows and not self.error_count and self.fault_count:
            self.errors, self.error_count = self._faults, self.fault_count

    def refuse(self, error: LineError) -> None:
        self.error_count += 1
        if len(self.errors) < KEPT_ERRORS:
            self.errors.append(error)

    def note(self, line: Line, number: int) -> None:
        """Remember the line's id, and compare what must be equal on all lines.

        Raises:
            BadLine: model, encoding format or dimensions are not those of the first line.
        """
        self._ids.add(line.custom_id, number)
        self.same = self.same or line.same
        names = ("model", "encoding_format", "dimensions")
        for name, here, first in zip(names, line.same, self.same, strict=True):
            if here != first:
                raise BadLine(
                    f"mismatched_{name}",
                    f"{name} {here!r} is not that of the first line, {first!r}",
                    f"body.{name}",
                )

    def repeated(self) -> Iterator[LineError]:
        """An error for each line whose id an earlier line has."""
        for number in self._ids.repeated():
            yield LineError(
                code="duplicate_custom_id", line=number, param="custom_id",
                message="The custom_id of this line is that of an earlier line",
            )  # fmt: skip


class _Rows:
    """Buffers rows and writes them to a Parquet file."""

    def __init__(self, path: Path, has_settings: bool) -> None:
        import pyarrow as pa

        self._path = path
        self._has_settings = has_settings
        self.count = 0
        self._schema = pa.schema(
            [
                ("custom_id", pa.string()), ("line", pa.int64()), ("text", pa.string()),
                *([("settings", pa.string())] if has_settings else []),
            ]
        )  # fmt: skip
        self._clear()

    def __enter__(self) -> _Rows:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, number: int, line: Line) -> None:
        settings = json.dumps(own_of(line.generation), ensure_ascii=False, sort_keys=True)
        for text in line.texts:
            self._settings.append(settings)
            self._ids.append(line.custom_id)
            self._lines.append(number)
            self._texts.append(text)
            self._bytes += len(text)
        self.count += len(line.texts)
        if len(self._lines) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._lines:
            own = [self._settings] if self._has_settings else []
            columns = [self._ids, self._lines, self._texts, *own]
            self._writer.write_table(pa.table(columns, schema=self._schema))
        self._clear()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._lines: list[int] = []
        self._texts: list[str] = []
        self._settings: list[str] = []
        self._bytes = 0
