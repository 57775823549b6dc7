"""A store under a prefix of a bucket: a conditional PUT is what makes exactly one creator win.

Each `create` marks its object with a random writer in the metadata. When the reply of a PUT is lost
or says that the object is there, a HEAD decides by that mark whether it was this very call.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from headrace.storage.local import check_name
from headrace.storage.s3_calls import (
    BACKOFF_FIRST_S,
    S3Calls,
    UploadGone,
)
from headrace.storage.s3_client import S3Connection
from headrace.storage.s3_errors import is_conflict, is_missing
from headrace.storage.s3_file import open_ranged
from headrace.storage.store import ObjectInfo
from schemas.errors import HeadraceError, InputChanged, MissingExtra, StorageError

MULTIPART_ABOVE_BYTES = 64 * 2**20
"""Chosen: below it a lost upload costs seconds to repeat, and one request is one thing to fail."""
PART_BYTES = 16 * 2**20
"""Chosen: held in memory. S3 requires 5 MiB or more, and at most 10,000 parts: up to 160 GB."""
PAGE_KEYS = 1_000
"""Required: the most that S3 lists in one answer."""
_WRITER = "headrace-writer"


class S3Store:
    """A prefix of a bucket as a `Store`; one client for all threads, made at the first call.

    `create` is True only when this call is known to have made the object, False when another did;
    where neither can be known it raises, and a later `create` finds out.

    Raises:
        MissingExtra: boto3 is not installed.
        InputNotFound, InputUnreadable: no such bucket, or no rights, when reading.
        OutputNotWritable: the same when writing, or a server without If-None-Match.
        StorageError: the server failed as often as we tried.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        path_style: bool | None = None,
        sse: str | None = None,
        sse_kms_key_id: str | None = None,
        timeout_s: float = 60,
        attempts: int = 6,
        multipart_above: int = MULTIPART_ABOVE_BYTES,
        part_bytes: int = PART_BYTES,
        page_keys: int = PAGE_KEYS,
        backoff_s: float = BACKOFF_FIRST_S,
    ) -> None:
        if importlib.util.find_spec("boto3") is None:
            raise MissingExtra("s3:// needs boto3: pip install 'headrace[s3]'")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        where = f"{self.uri} at {endpoint_url}" if endpoint_url else self.uri
        self._calls = S3Calls(where, attempts, backoff_s)
        self._sse = {"ServerSideEncryption": sse} if sse else {}
        if sse_kms_key_id:
            self._sse["SSEKMSKeyId"] = sse_kms_key_id
        self._attempts = attempts
        self._multipart_above = multipart_above
        self._part_bytes = part_bytes
        self._page_keys = page_keys
        if path_style is None:
            path_style = endpoint_url is not None
        self._connection = S3Connection(endpoint_url, region, path_style, timeout_s)

    def by_parts(self) -> S3Store:
        """The same store, which uploads everything in parts: to probe a server for that."""
        other = copy.copy(self)
        other._multipart_above = -1
        return other

    def head(self, name: str) -> ObjectInfo | None:
        found = self._head(name)
        return None if found is None else _info(name, found["ContentLength"], found)

    def read(self, name: str) -> bytes | None:
        key = self._key(name)

        def get() -> bytes:
            answer = self._connection.client().get_object(Bucket=self._bucket, Key=key)
            return bytes(answer["Body"].read())

        return self._calls.find(name, get)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        token: dict[str, str] = {}
        while True:
            page = self._calls.read(prefix, partial(self._list_page, self._prefix + prefix, token))
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # what consoles make to show an empty folder
                    yield _info(item["Key"][len(self._prefix) :], item["Size"], item)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def create(self, name: str, data: bytes) -> bool:
        return self._create(name, io.BytesIO(data), len(data))

    def create_from_file(self, name: str, path: Path) -> bool:
        with path.open("rb") as file:
            return self._create(name, file, path.stat().st_size)

    def replace(self, name: str, data: bytes) -> None:
        self._calls.write(name, partial(self._put, self._key(name), data))

    def delete(self, name: str) -> None:
        key = self._key(name)
        self._calls.write(
            name, lambda: self._connection.client().delete_object(Bucket=self._bucket, Key=key)
        )

    def open(self, name: str) -> Any:
        """As the port says; a read raises InputChanged when the object is not the one opened."""
        found = self._head(name)
        if found is None:
            raise FileNotFoundError(f"{name} is not in {self.uri}")
        return open_ranged(found["ContentLength"], partial(self._fetch, name, found["ETag"]))

    def scratch(self) -> Path:
        """As the port says; the caller removes it."""
        return Path(tempfile.mkdtemp(prefix="headrace-"))

    def clean_orphans(self) -> tuple[str, ...]:
        """Abort the multipart uploads under the prefix; their names. Only while no job writes."""
        gone: tuple[str, ...] = ()
        page = self._calls.read("", self._list_uploads)
        for upload in page.get("Uploads", ()):
            name = upload["Key"][len(self._prefix) :]
            self._calls.write(name, partial(self._abort, upload["Key"], upload["UploadId"]))
            gone += (name,)
        return gone + self.clean_orphans() if page.get("IsTruncated") else gone

    # -- one commit

    def _create(self, name: str, body: BinaryIO, size: int) -> bool:
        key, mark = self._key(name), uuid.uuid4().hex
        if size <= self._multipart_above:
            put = partial(self._put, key, body.read(), IfNoneMatch="*", Metadata={_WRITER: mark})
            return self._calls.commit(
                name, put, partial(self._is_marked, name, mark), of_upload=False
            )
        if (
            self._head(name, writing=True) is not None
        ):  # the commit decides; this only saves the upload
            return False
        for _ in range(self._attempts):
            body.seek(0)
            try:
                return self._create_by_parts(name, body, mark)
            except UploadGone:
                continue
        raise StorageError(
            f"cannot write {name} in {self._calls.where}: its upload was lost again and again"
        )

    def _create_by_parts(self, name: str, body: BinaryIO, mark: str) -> bool:
        key, client = self._key(name), self._connection.client()
        start = partial(
            client.create_multipart_upload,
            Bucket=self._bucket, Key=key, Metadata={_WRITER: mark}, **self._sse,
        )  # fmt: skip
        upload = {
            "Bucket": self._bucket,
            "Key": key,
            "UploadId": self._calls.write(name, start)["UploadId"],
        }
        won = False
        try:
            parts = []
            for number, data in enumerate(_pieces(body, self._part_bytes), start=1):
                send = partial(client.upload_part, Body=data, PartNumber=number, **upload)
                parts.append({"PartNumber": number, "ETag": self._calls.write(name, send)["ETag"]})
            whole = {"MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
            complete = partial(client.complete_multipart_upload, **upload, **whole)
            won = self._calls.commit(
                name, complete, partial(self._is_marked, name, mark), of_upload=True
            )
            return won
        finally:
            if not won:
                with suppress(HeadraceError):  # best effort: `clean_orphans` finds what stays
                    self._calls.write(name, partial(self._abort, key, upload["UploadId"]))

    def _is_marked(self, name: str, mark: str) -> bool | None:
        found = self._head(name, writing=True)
        return None if found is None else found.get("Metadata", {}).get(_WRITER) == mark

    def _put(self, key: str, data: bytes, **options: Any) -> None:
        self._connection.client().put_object(
            Bucket=self._bucket, Key=key, Body=data, **self._sse, **options
        )

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._connection.client().abort_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id
            )
        except Exception as error:
            if not is_conflict(error):  # completed or aborted already
                raise

    # -- calls

    def _head(self, name: str, *, writing: bool = False) -> dict[str, Any] | None:
        key = self._key(name)
        return self._calls.find(
            name,
            lambda: dict(self._connection.client().head_object(Bucket=self._bucket, Key=key)),
            writing=writing,
        )

    def _fetch(self, name: str, etag: str, start: int, stop: int) -> bytes:
        """Bytes from `start` up to `stop` of the object as it was when it was opened."""

        def get() -> bytes:
            answer = self._connection.client().get_object(
                Bucket=self._bucket,
                Key=self._key(name),
                Range=f"bytes={start}-{stop - 1}",
                IfMatch=etag,
            )
            data = bytes(answer["Body"].read())
            if len(data) != stop - start:
                raise StorageError(f"{name} in {self._calls.where}: the server ignores ranges")
            return data

        def unchanged() -> bytes:
            try:
                return get()
            except Exception as error:
                if is_missing(error) or is_conflict(error):
                    raise InputChanged(f"{name} in {self.uri} changed while it was read") from error
                raise

        return self._calls.read(name, unchanged)

    def _list_page(self, prefix: str, token: dict[str, str]) -> dict[str, Any]:
        page = self._connection.client().list_objects_v2(
            Bucket=self._bucket, Prefix=prefix, MaxKeys=self._page_keys, **token
        )
        return dict(page)

    def _list_uploads(self) -> dict[str, Any]:
        found = self._connection.client().list_multipart_uploads(
            Bucket=self._bucket, Prefix=self._prefix
        )
        return dict(found)

    def _key(self, name: str) -> str:
        check_name(name)
        return self._prefix + name


def _info(name: str, size: int, found: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(name, size, found["ETag"].strip('"'), found["LastModified"].timestamp())


def _pieces(body: BinaryIO, size: int) -> Iterator[bytes]:
    """The body in pieces of the size; one empty piece where it is empty."""
    piece = body.read(size)
    yield piece
    while len(piece) == size and (piece := body.read(size)):
        yield piece
