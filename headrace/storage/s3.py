"""A store under a prefix of a bucket: a conditional PUT ensures that exactly one creator wins.

Each `create` marks its object with a random writer id in the metadata. If the reply of a PUT is
lost or says that the object exists, a HEAD shows by that mark whether this call made it.

Objects of up to 5 GiB, S3's limit, are sent in one PUT. Several servers honour `If-None-Match` for
a PUT but not for the end of a multipart upload. So parts are used only above that limit or if a
proxy refuses the size, and only after a trial showed that this server lets one of several uploads
win.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from headrace.storage.local import check_name
from headrace.storage.probe import RACERS, ROUNDS, probe_name
from headrace.storage.s3_calls import (
    BACKOFF_FIRST_S,
    S3Calls,
    TooLarge,
    UploadGone,
)
from headrace.storage.s3_client import S3Connection
from headrace.storage.s3_errors import is_conflict, is_missing, is_unexplained
from headrace.storage.s3_file import open_ranged
from headrace.storage.s3_upload import MultipartUpload, abort_upload, race_of_uploads
from headrace.storage.store import ObjectInfo
from schemas.errors import InputChanged, MissingExtra, OutputNotWritable, StorageError

SINGLE_PUT_BYTES = 5 * 2**30
"""Required: the maximum that S3 accepts in one PUT."""
PART_BYTES = 16 * 2**20
"""Chosen: kept in memory. S3 requires 5 MiB or more and at most 10,000 parts: up to 160 GB."""
PAGE_KEYS = 1_000
"""Required: the maximum that S3 lists in one answer."""
_WRITER = "headrace-writer"


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to connect to an S3 server, and the limits of its use."""

    endpoint_url: str | None = None
    """None: AWS."""
    region: str | None = None
    path_style: bool | None = None
    """None: path style for any endpoint other than AWS's."""
    sse: str | None = None
    sse_kms_key_id: str | None = None
    requester_pays: bool = False
    timeout_s: float = 60
    attempts: int = 6
    single_put_bytes: int = SINGLE_PUT_BYTES
    part_bytes: int = PART_BYTES
    page_keys: int = PAGE_KEYS
    backoff_s: float = BACKOFF_FIRST_S

    @property
    def encryption(self) -> dict[str, str]:
        """S3's encryption parameters for each write."""
        found = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.sse_kms_key_id}
        return {name: value for name, value in found.items() if value}


class S3Store:
    """A prefix of a bucket as a `Store`; one client for all threads, made at the first call.

    `create` is True only if this call is known to have made the object, False if another did. If
    neither is known it raises, and a later `create` finds out.

    Raises:
        MissingExtra: boto3 is not installed.
        InputNotFound, InputUnreadable: no such bucket, or no rights, when reading.
        OutputNotWritable: the same when writing, or a server without If-None-Match.
        StorageError: every try failed.
    """

    is_local = False
    has_etag = True

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        if importlib.util.find_spec("boto3") is None:
            raise MissingExtra("s3:// needs boto3: pip install 'headrace[s3]'")
        self._options = options = options or S3Options()
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        endpoint = options.endpoint_url
        where = f"{self.uri} at {endpoint}" if endpoint else self.uri
        path_style = endpoint is not None if options.path_style is None else options.path_style
        self._connection = S3Connection(
            endpoint, options.region, path_style, options.timeout_s, options.requester_pays
        )
        self._calls = S3Calls(where, options.attempts, options.backoff_s, self._connection.renew)
        self._probing = threading.Lock()
        self._keeps_parts: bool | None = None

    def by_parts(self) -> S3Store:
        """The same store, but with multipart uploads only and without a trial of the server."""
        other = copy.copy(self)
        other._options = replace(self._options, single_put_bytes=-1)
        other._keeps_parts = True
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
                if not item["Key"].endswith("/"):  # consoles make such keys to show an empty folder
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
        self._calls.write(name, partial(self._put, self._key(name), io.BytesIO(data), len(data)))

    def delete(self, name: str) -> None:
        key = self._key(name)
        self._calls.write(
            name, lambda: self._connection.client().delete_object(Bucket=self._bucket, Key=key)
        )

    def open(self, name: str, known: ObjectInfo | None = None) -> Any:
        """See `Store`; a read raises InputChanged if the object is no longer the one opened."""
        if known is not None:
            return open_ranged(known.size, partial(self._fetch, name, f'"{known.etag}"'))
        found = self._head(name)
        if found is None:
            raise FileNotFoundError(f"{name} is not in {self.uri}")
        return open_ranged(found["ContentLength"], partial(self._fetch, name, found["ETag"]))

    def link(self, name: str, seconds: int) -> str:
        """A URL by which anyone can read the object for so long; signed with our credentials."""
        return str(
            self._connection.client().generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": self._key(name)},
                ExpiresIn=seconds,
            )
        )

    def scratch(self) -> Path:
        """See `Store`; the caller removes the folder."""
        return Path(tempfile.mkdtemp(prefix="headrace-"))

    def clean_orphans(self) -> tuple[str, ...]:
        """Abort the multipart uploads under the prefix; returns their names. Only while no job writes."""
        gone: tuple[str, ...] = ()
        page = self._calls.read("", self._list_uploads)
        for upload in page.get("Uploads", ()):
            name = upload["Key"][len(self._prefix) :]
            target = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            self._calls.write(name, partial(abort_upload, self._connection.client(), target))
            gone += (name,)
        return gone + self.clean_orphans() if page.get("IsTruncated") else gone

    # -- one commit

    @property
    def supports_multipart(self) -> bool:
        """Whether exactly one of several simultaneous multipart uploads wins; tried at first use.

        Raises:
            OutputNotWritable, StorageError: the trial failed.
        """
        with self._probing:
            if self._keeps_parts is None:
                self._keeps_parts = all(self._one_upload_wins() for _ in range(ROUNDS))
            return self._keeps_parts

    def _create(self, name: str, body: BinaryIO, size: int) -> bool:
        mark = uuid.uuid4().hex
        # the commit decides; this check only saves an upload
        if size > self._options.part_bytes and self._head(name, writing=True) is not None:
            return False
        if size <= self._options.single_put_bytes:
            try:
                return self._create_whole(name, body, size, mark)
            except TooLarge as error:
                if not self.supports_multipart:
                    raise self._too_large(name, size) from error
        elif not self.supports_multipart:
            raise self._too_large(name, size)
        for _ in range(self._options.attempts):
            body.seek(0)
            try:
                return self._create_by_parts(name, body, mark)
            except UploadGone:
                continue
        raise StorageError(
            f"cannot write {name} in {self._calls.where}: its upload was lost again and again"
        )

    def _create_whole(self, name: str, body: BinaryIO, size: int, mark: str) -> bool:
        put = partial(
            self._put, self._key(name), body, size, IfNoneMatch="*", Metadata={_WRITER: mark}
        )
        return self._calls.commit(name, put, partial(self._is_marked, name, mark), of_upload=False)

    def _create_by_parts(self, name: str, body: BinaryIO, mark: str) -> bool:
        upload = self._begin_upload(name, mark)
        won = False
        try:
            upload.send(body, self._options.part_bytes)
            won = upload.complete(partial(self._is_marked, name, mark))
            return won
        finally:
            if not won:
                upload.abort()

    def _begin_upload(self, name: str, mark: str) -> MultipartUpload:
        target = {"Bucket": self._bucket, "Key": self._key(name)}
        upload = MultipartUpload(self._calls, self._connection.client, name, target)
        return upload.begin(Metadata={_WRITER: mark}, **self._options.encryption)

    def _one_upload_wins(self) -> bool:
        """Whether exactly one of several uploads wins if all are sent before any is completed."""
        name = probe_name()
        try:
            winners = race_of_uploads(
                partial(self._begin_upload, name), partial(self._is_marked, name), RACERS
            )
            return winners == [self.read(name)]
        finally:
            self.delete(name)

    def _too_large(self, name: str, size: int) -> OutputNotWritable:
        return OutputNotWritable(
            f"cannot write {name} in {self._calls.where}: {size:,} bytes are more than it takes in "
            "one PUT, and of several uploads in parts it lets more than one win; make the parts "
            "smaller with --chunk-rows, or raise the limit of the store or the proxy before it"
        )

    def _is_marked(self, name: str, mark: str) -> bool | None:
        found = self._head(name, writing=True)
        return None if found is None else found.get("Metadata", {}).get(_WRITER) == mark

    def _put(self, key: str, body: BinaryIO, size: int, **options: Any) -> None:
        """Send one PUT: from memory up to a part's size, above that streamed from the file."""
        body.seek(0)
        data = body.read() if size <= self._options.part_bytes else body
        self._connection.client().put_object(
            Bucket=self._bucket, Key=key, Body=data, **self._options.encryption, **options
        )

    # -- calls

    def _head(self, name: str, *, writing: bool = False) -> dict[str, Any] | None:
        target = {"Bucket": self._bucket, "Key": self._key(name)}

        def look() -> dict[str, Any]:
            client = self._connection.client()
            try:
                return dict(client.head_object(**target))
            except Exception as error:
                if is_unexplained(error):  # a HEAD's answer has no body; a GET's says why
                    client.get_object(**target, Range="bytes=0-0")["Body"].close()
                raise

        return self._calls.find(name, look, writing=writing)

    def _fetch(self, name: str, etag: str, start: int, stop: int) -> bytes:
        """Bytes from `start` to before `stop` of the object as it was when opened."""

        def get() -> bytes:
            answer = self._connection.client().get_object(
                Bucket=self._bucket,
                Key=self._key(name),
                Range=f"bytes={start}-{stop - 1}",
                IfMatch=etag,
            )
            data = bytes(answer["Body"].read())
            if answer.get("ETag", etag).strip('"') != etag.strip('"'):  # IfMatch was ignored
                raise InputChanged(f"{name} in {self.uri} is not the object that was opened")
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
            Bucket=self._bucket, Prefix=prefix, MaxKeys=self._options.page_keys, **token
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
