"""Classifies errors of S3: worth a retry, lost to another writer, or a message for a person.

The errors are botocore's. Its classes are imported where they are used, since boto3 is an extra.
"""

from __future__ import annotations

from typing import Any

from schemas.errors import (
    ConfigError,
    DiskFull,
    HeadraceError,
    InputNotFound,
    InputUnreadable,
    OutputNotWritable,
    StorageError,
)

_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501
_TOO_MANY = 429

_THROTTLED = {
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled",
    "TooManyRequests", "TooManyRequestsException", "RequestTimeout", "InternalError",
    "ServiceUnavailable", "BandwidthLimitExceeded",
}  # fmt: skip
_CONFLICT = {"PreconditionFailed", "412", "ConditionalRequestConflict", "OperationAborted", "409"}
_GONE = {"NoSuchUpload", "404"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {"AccessDenied", "403", "AllAccessDisabled", "AccountProblem", "Forbidden"}
_LOGIN = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken",
    "TokenRefreshRequired", "ExpiredTokenException",
}  # fmt: skip
_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "TemporaryRedirect", "307"}
_UNEXPLAINED = {"400", "403"}
_ROTATE = "check key and secret; a token that expired is read again from the shared file"
_TOO_LARGE = {"EntityTooLarge", "MaxMessageLengthExceeded", "413"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507"}


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: throttling, 5xx, timeouts, lost connections."""
    from botocore import exceptions as boto
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    if isinstance(error, boto.SSLError):
        return False
    if isinstance(error, boto.ClientError):
        status = _status(error)
        server = status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED
        return server or status == _TOO_MANY or code_of(error) in _THROTTLED
    # ResponseStreamingError and the two of urllib3: the body broke off while it was read.
    broken = (
        boto.ResponseStreamingError,
        boto.IncompleteReadError,
        ProtocolError,
        ReadTimeoutError,
    )
    return isinstance(error, (boto.HTTPClientError, boto.ConnectionError, *broken))


def is_conflict(error: BaseException) -> bool:
    """Whether a commit conflicts with another writer or its own earlier try (409, 412, upload gone)."""
    code = code_of(error)
    return code in _CONFLICT or code in _GONE


def is_missing(error: BaseException) -> bool:
    return code_of(error) in _MISSING


def is_too_large(error: BaseException) -> bool:
    """Whether the body is larger than the server, or a proxy before it, accepts in one request."""
    return code_of(error) in _TOO_LARGE


def code_of(error: BaseException) -> str:
    """S3's error code; empty if the error is not a reply of S3."""
    response: Any = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def explain(error: BaseException, where: str, name: str, *, writing: bool) -> HeadraceError:
    """Our error for it; the message names the place and what to do, never a credential."""
    from botocore import exceptions as boto

    verb = "write" if writing else "read"
    what = f"cannot {verb} {name or 'the listing'} in {where}"
    code = code_of(error)
    rights: type[HeadraceError] = OutputNotWritable if writing else InputUnreadable
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return rights(f"{what}: no credentials; set AWS_ACCESS_KEY_ID and its secret, or a profile")
    if isinstance(error, boto.ProfileNotFound | boto.ParamValidationError):
        return ConfigError(f"{what}: {type(error).__name__}; check AWS_PROFILE and the bucket")
    if isinstance(error, ValueError):  # boto3's for an endpoint that is no URL
        return ConfigError(f"{what}: {error}; check s3-endpoint-url and s3-region")
    if code in _LOGIN:
        return _may_pass(rights(f"{what}: the credentials are not accepted ({code}); {_ROTATE}"))
    if code in _REFUSED:
        return _may_pass(
            rights(f"{what}: access denied ({code}); the key needs get, put, delete and list")
        )
    if code == "NoSuchBucket":
        missing: type[HeadraceError] = OutputNotWritable if writing else InputNotFound
        return missing(f"{what}: there is no such bucket; check its name, or create it")
    if code in _REGION:
        return rights(f"{what}: the bucket is in another region ({code}); set s3-region")
    if code.startswith("KMS"):
        return rights(f"{what}: the encryption key cannot be used ({code}); see s3-sse-kms-key-id")
    if code in _FULL:
        return DiskFull(f"{what}: the store is full ({code}); make room, then resume")
    if writing and _status(error) == _NOT_IMPLEMENTED:
        return OutputNotWritable(f"{what}: the server has no If-None-Match ({code})")
    return StorageError(f"{what}: {_failure(error, code)}")


def is_login(error: BaseException) -> bool:
    """Whether the credentials were refused: others may be in the shared file by now."""
    code = code_of(error)
    return code in _LOGIN or code in _REFUSED


def is_unexplained(error: BaseException) -> bool:
    """Whether an answer has no reason in it though its body would: HEAD's has none."""
    return code_of(error) in _UNEXPLAINED


def _may_pass(error: HeadraceError) -> HeadraceError:
    error.may_pass = True
    return error


def _failure(error: BaseException, code: str) -> str:
    from botocore import exceptions as boto

    if isinstance(error, boto.SSLError):
        return "the TLS handshake failed; check the endpoint's name and AWS_CA_BUNDLE"
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError):
        return "the endpoint cannot be reached; check s3-endpoint-url and the network"
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return f"no answer ({type(error).__name__}); it may be busy or away: try again"
    return f"{code or type(error).__name__} (status {_status(error) or 'none'}); try again"


def _status(error: BaseException) -> int:
    response: Any = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
