"""Reads a multipart upload and writes its file to disk while it arrives, in constant memory."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from producers.gateway.problems import Problem

MOST_FIELD_BYTES = 1_000
MOST_PARTS = 16


class Upload:
    """The form of an upload: its fields as text, its `file` on the disk.

    The parser calls the methods `on_…`; see python-multipart.
    """

    def __init__(self, boundary: bytes, path: Path, most_bytes: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.bytes = 0
        self._path = path
        self._most_bytes = most_bytes
        self._sink: IO[bytes] | None = None
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[str, bytes] = {}
        self._name = ""
        self._field = bytearray()
        self._parts = 0
        self.is_whole = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._named,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._whole,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        """Process the next piece of the body.

        Raises:
            Problem: it is no form, or the file is too large.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Problem(400, f"the body is no multipart form: {error}", code="bad_form") from None

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Problem(400, f"the form has more than {MOST_PARTS} parts", code="bad_form")
        self._headers, self._name, self._field = {}, "", bytearray()

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _named(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file" and b"filename" in options:
            if self.filename is not None:
                raise Problem(400, "the form has two files", code="bad_form")
            self.filename = options[b"filename"].decode("utf-8", "replace")[:255]
            self._sink = self._path.open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self.bytes += end - start
            if self.bytes > self._most_bytes:
                raise Problem(
                    413, f"the file is larger than {self._most_bytes:,} bytes", code="too_large"
                )
            self._sink.write(memoryview(data)[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > MOST_FIELD_BYTES:
            raise Problem(400, f"the field {self._name[:50]!r} is too long", code="bad_form")

    def _end(self) -> None:
        if self._sink is not None:
            self.close()
        elif self._name:
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _whole(self) -> None:
        self.is_whole = True


async def receive_upload(request: Request, path: Path, most_bytes: int) -> Upload:
    """The form of the request, its file at `path`.

    Raises:
        Problem: 400, it is no form, has no file or was cut off; 413, the file is too large.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(400, "send the file as multipart/form-data", code="bad_form")
    upload = Upload(boundary, path, most_bytes)
    try:
        async for piece in request.stream():
            upload.feed(piece)
    except ClientDisconnect:
        raise Problem(400, "the upload was cut off", code="cut_off") from None
    finally:
        upload.close()
    if not upload.is_whole:
        raise Problem(400, "the upload was cut off", code="cut_off")
    if upload.filename is None:
        raise Problem(400, "the form has no file", code="missing_required_parameter", param="file")
    return upload
