"""What only S3 has: parts, uploads that are left over, encryption, and servers that break the promise."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.probe import probe_store
from headrace.storage.s3 import S3Options, S3Store
from headrace.storage.s3_file import SMALL_BYTES
from schemas.errors import (
    ConfigError,
    InputChanged,
    InputNotFound,
    InputUnreadable,
    OutputNotWritable,
    StorageError,
    UriNotAllowed,
)
from tests.integration.storage.conftest import PART, names
from tests.store_races import race_for_parts


def s3(server: Any, bucket: str, **options: Any) -> S3Store:
    return S3Store(bucket, "p", S3Options(server.endpoint, attempts=2, **options))


def uploads(server: Any, bucket: str) -> list[Any]:
    found = server.client().list_multipart_uploads(Bucket=bucket)
    return list(found.get("Uploads", []))


def test_an_object_that_changes_while_it_is_read_is_noticed(s3_server: Any, s3_bucket: str) -> None:
    store = s3(s3_server, s3_bucket)
    store.create("a", b"0123" + bytes(SMALL_BYTES))
    with store.open("a") as file:
        assert file.read(4) == b"0123"
        store.replace("a", b"abcd" + bytes(SMALL_BYTES))
        with pytest.raises(InputChanged, match="changed while it was read"):
            file.read(4)
        store.delete("a")
        with pytest.raises(InputChanged):
            file.read(4)


def test_a_small_object_is_what_it_was_at_the_first_read(s3_server: Any, s3_bucket: str) -> None:
    store = s3(s3_server, s3_bucket)
    store.create("a", b"0123456789")
    with store.open("a") as file:
        assert file.read(4) == b"0123"
        store.replace("a", b"abcdefghij")
        assert file.read() == b"456789"


def create_large(store: S3Store) -> str:
    """The etag of an object of 11 MiB, made from a file once and no second time."""
    data = bytes(range(256)) * (11 * 2**20 // 256)
    file = store.scratch() / "part"
    file.write_bytes(data)
    assert store.create_from_file("large", file)
    assert store.read("large") == data
    info = store.head("large")
    assert info is not None
    assert not store.create_from_file("large", file)
    return info.etag


def test_a_large_file_goes_in_parts_and_is_whole(s3_server: Any, s3_bucket: str) -> None:
    store = s3(s3_server, s3_bucket, single_put_bytes=PART, part_bytes=PART)
    assert create_large(store).endswith("-3")
    assert uploads(s3_server, s3_bucket) == []


def test_an_upload_that_lost_the_race_is_aborted(s3_server: Any, s3_bucket: str) -> None:
    store = s3(s3_server, s3_bucket).by_parts()
    barrier, results = threading.Barrier(4), []

    def race() -> None:
        barrier.wait()
        results.append(store.create("a", b"x"))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]
    assert uploads(s3_server, s3_bucket) == []


def test_orphaned_uploads_are_cleaned(s3_server: Any, s3_bucket: str) -> None:
    for key in ("p/data/part-0", "other/part-0"):
        s3_server.client().create_multipart_upload(Bucket=s3_bucket, Key=key)
    assert s3(s3_server, s3_bucket).clean_orphans() == ("data/part-0",)
    assert [u["Key"] for u in uploads(s3_server, s3_bucket)] == ["other/part-0"]


def test_more_objects_than_a_page_are_listed(s3_server: Any, s3_bucket: str) -> None:
    store = s3(s3_server, s3_bucket, page_keys=3)
    made = [f"data/part-{n:05}" for n in range(10)]
    for name in made:
        store.create(name, b"")
    assert names(store) == made
    assert names(store, "data/part-0000") == made


@pytest.mark.parametrize("by_parts", [False, True])
def test_encryption_is_asked_for(s3_server: Any, s3_bucket: str, by_parts: bool) -> None:
    store = s3(s3_server, s3_bucket, sse="aws:kms", sse_kms_key_id="alias/headrace")
    store = store.by_parts() if by_parts else store
    store.create("a", b"1")
    head = s3_server.client().head_object(Bucket=s3_bucket, Key="p/a")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == "alias/headrace"


def test_a_missing_bucket_is_named(s3_server: Any) -> None:
    store = s3(s3_server, "no-such-bucket")
    with pytest.raises(InputNotFound, match="no-such-bucket"):
        names(store)
    with pytest.raises(OutputNotWritable, match="no such bucket"):
        store.create("a", b"")
    with pytest.raises(OutputNotWritable, match="no such bucket"):
        store.by_parts().create("a", b"")


def test_a_server_that_is_away_is_named_with_its_address() -> None:
    store = S3Store("bucket", "", S3Options("http://127.0.0.1:1", "us-east-1", attempts=2))
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1.*cannot be reached"):
        store.create("a", b"")
    with pytest.raises(StorageError, match="cannot be reached"):
        store.read("a")


def test_no_credentials_are_said_to_be_missing(
    s3_server: Any, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    store = s3(s3_server, s3_bucket)
    with pytest.raises(InputUnreadable, match="no credentials"):
        store.read("a")
    with pytest.raises(OutputNotWritable, match="no credentials"):
        store.create("a", b"")


def test_a_store_is_opened_by_its_uri_and_settings(s3_server: Any, s3_bucket: str) -> None:
    settings = Settings(s3_endpoint_url=s3_server.endpoint, allowed_prefixes=f"s3://{s3_bucket}/in")
    store = open_store(f"s3://{s3_bucket}//in/x/", settings)
    assert store.uri == f"s3://{s3_bucket}/in/x"
    store.create("a", b"1")
    assert s3_server.client().head_object(Bucket=s3_bucket, Key="in/x/a")["ContentLength"] == 1
    for outside in (f"s3://{s3_bucket}", f"s3://{s3_bucket}/input", "/tmp"):
        with pytest.raises(UriNotAllowed):
            open_store(outside, settings)
    with pytest.raises(ConfigError):
        open_store(f"s3://{s3_bucket}/in/../x", settings)


def test_a_large_file_goes_in_one_put(s3_server: Any, s3_bucket: str) -> None:
    assert "-" not in create_large(s3(s3_server, s3_bucket, part_bytes=PART))


# -- a server that forgets the condition where an upload ends, as Ceph RGW 16.2 does


@pytest.fixture
def careless_bucket(s3_server: Any) -> str:
    """See tests/serve_s3.py: `If-None-Match` is ignored on CompleteMultipartUpload."""
    return _bucket(s3_server, "careless")


@pytest.fixture
def racy_bucket(s3_server: Any) -> str:
    """See tests/serve_s3.py: the condition is looked at some time before the write."""
    return _bucket(s3_server, "racy")


def _bucket(server: Any, kind: str) -> str:
    name = f"{kind}-{uuid.uuid4().hex[:16]}"
    server.client().create_bucket(Bucket=name)
    return name


@pytest.mark.parametrize("kind", ["careless_bucket", "racy_bucket"])
def test_uploads_in_parts_are_not_trusted_where_several_win(
    kind: str, s3_server: Any, request: pytest.FixtureRequest
) -> None:
    bucket = request.getfixturevalue(kind)
    store = s3(s3_server, bucket)
    assert not store.supports_multipart
    assert names(store) == []
    assert uploads(s3_server, bucket) == []


def test_uploads_in_parts_are_trusted_where_one_wins(s3_server: Any, s3_bucket: str) -> None:
    store = s3(s3_server, s3_bucket)
    assert store.supports_multipart
    assert names(store) == []
    assert uploads(s3_server, s3_bucket) == []


def test_a_careless_server_is_fit_for_parts_in_one_put(
    s3_server: Any, careless_bucket: str
) -> None:
    store = s3(s3_server, careless_bucket)
    probe_store(store)
    assert store.create("data/part-0", bytes(PART))
    assert not store.create("data/part-0", b"again")


def test_what_is_too_large_for_one_put_is_refused_where_parts_are_not_safe(
    s3_server: Any, careless_bucket: str
) -> None:
    store = s3(s3_server, careless_bucket, single_put_bytes=10)
    with pytest.raises(OutputNotWritable, match="--chunk-rows"):
        store.create("part", b"eleven bytes")
    assert names(store) == []


def test_a_server_whose_puts_race_is_refused(s3_server: Any, racy_bucket: str) -> None:
    store = s3(s3_server, racy_bucket)
    with pytest.raises(OutputNotWritable, match=r"\d of 8 that created it at once"):
        probe_store(store)
    assert names(store) == []


ROUNDS = int(os.environ.get("HEADRACE_RACES", "10"))
"""`make races` makes it 200."""


@pytest.mark.parametrize("by_parts", [False, True])
def test_of_eight_creators_of_a_part_one_wins_round_after_round(
    s3_server: Any, s3_bucket: str, by_parts: bool
) -> None:
    store = s3(s3_server, s3_bucket)
    assert race_for_parts(store.by_parts() if by_parts else store, ROUNDS) == []


def test_every_request_says_who_pays_when_asked(s3_server: Any, s3_bucket: str) -> None:
    store = S3Store(s3_bucket, "p", S3Options(s3_server.endpoint, requester_pays=True))
    seen: dict[str, str | None] = {}

    def note(request: Any, operation_name: str, **_: Any) -> None:
        payer = request.headers.get("x-amz-request-payer")
        seen[operation_name] = payer.decode() if isinstance(payer, bytes) else payer

    store._connection.client().meta.events.register("before-sign.s3.*", note)
    assert store.create("a", b"1")
    assert (store.read("a"), store.head("a") is None, names(store)) == (b"1", False, ["a"])
    store.delete("a")
    assert {"PutObject", "GetObject", "HeadObject", "DeleteObject"} <= seen.keys()
    assert {seen[name] for name in seen if name != "ListBuckets"} == {"requester"}
