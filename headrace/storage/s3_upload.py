"""One multipart upload: opened, sent part by part, and completed only if the name is free."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from headrace.storage.probe import race
from headrace.storage.s3_calls import S3Calls, UploadGone
from headrace.storage.s3_errors import is_conflict
from schemas.errors import HeadraceError


@dataclass
class MultipartUpload:
    """An upload to one key. It ends with `complete` or `abort`; otherwise `clean_orphans` finds it.

    Errors are those of `S3Calls.write`.
    """

    calls: S3Calls
    client: Callable[[], Any]
    """The client of the moment: its credentials may change on the way."""
    name: str
    target: dict[str, Any]
    """`Bucket` and `Key`."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    upload_id: str = ""

    def begin(self, **options: Any) -> MultipartUpload:
        """Open the upload; the options (metadata, encryption) are those of the object."""
        self.upload_id = self.calls.write(
            self.name, lambda: self.client().create_multipart_upload(**self.target, **options)
        )["UploadId"]
        return self

    def send(self, body: BinaryIO, part_bytes: int) -> None:
        """Upload the body in parts of `part_bytes`."""
        for number, data in enumerate(_pieces(body, part_bytes), start=1):
            put = partial(self._send_part, data, number)
            etag = self.calls.write(self.name, put)["ETag"]
            self.parts.append({"PartNumber": number, "ETag": etag})

    def complete(self, is_ours: Callable[[], bool | None]) -> bool:
        """Whether the object is from this upload. Raises UploadGone: start again."""
        done = {"MultipartUpload": {"Parts": self.parts}, "IfNoneMatch": "*"}
        return self.calls.commit(
            self.name,
            lambda: self.client().complete_multipart_upload(**self._upload, **done),
            is_ours,
            of_upload=True,
        )

    def abort(self) -> None:
        """Remove the parts, if that is possible now."""
        with suppress(HeadraceError):
            self.calls.write(self.name, lambda: abort_upload(self.client(), self._upload))

    def _send_part(self, data: bytes, number: int) -> Any:
        return self.client().upload_part(Body=data, PartNumber=number, **self._upload)

    @property
    def _upload(self) -> dict[str, Any]:
        return {**self.target, "UploadId": self.upload_id}


def race_of_uploads(
    begin: Callable[[str], MultipartUpload], is_marked: Callable[[str], bool | None], racers: int
) -> list[bytes]:
    """What the winners wrote, after uploads to one name were all sent and then completed at once."""
    marks = [uuid.uuid4().hex for _ in range(racers)]
    uploads: list[MultipartUpload] = []

    def ended(upload: MultipartUpload, mark: str) -> bool:
        try:
            return upload.complete(partial(is_marked, mark))
        except UploadGone:
            return False

    try:
        for mark in marks:
            uploads.append(begin(mark))
            uploads[-1].send(io.BytesIO(mark.encode()), len(mark))
        won = race([partial(ended, u, mark) for u, mark in zip(uploads, marks, strict=True)])
    finally:
        for upload in uploads:
            upload.abort()
    return [mark.encode() for mark, is_winner in zip(marks, won, strict=True) if is_winner]


def abort_upload(client: Any, upload: dict[str, Any]) -> None:
    """Abort an upload; no error if it was completed or aborted already."""
    try:
        client.abort_multipart_upload(**upload)
    except Exception as error:
        if not is_conflict(error):
            raise


def _pieces(body: BinaryIO, size: int) -> Iterator[bytes]:
    """The body in pieces of that size; one empty piece if it is empty."""
    piece = body.read(size)
    yield piece
    while len(piece) == size and (piece := body.read(size)):
        yield piece
