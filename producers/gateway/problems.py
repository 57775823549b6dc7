"""Errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`. Pure."""

from __future__ import annotations

from typing import Any

from schemas.errors import (
    BrokerError,
    HeadraceError,
    JobNotFound,
    OutputConflict,
    OutputNotWritable,
    StorageError,
    UriNotAllowed,
    UsageError,
)

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}

_STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (UriNotAllowed, 403),
    (JobNotFound, 404),
    (OutputConflict, 409),
    (OutputNotWritable, 403),
    (UsageError, 400),
    (BrokerError, 503),
    (StorageError, 503),
)


class Problem(Exception):
    """An error response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


def problem_of(error: HeadraceError) -> Problem:
    """The response for one of headrace's own errors."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    retry = 5 if status == 503 else None
    return Problem(status, str(error), code=error.error_type, retry_after_s=retry)


def not_found(what: str, id: str) -> Problem:
    """404, the same for objects that do not exist and objects of other callers."""
    return Problem(404, f"there is no {what} {id!r}", code="not_found")
