"""Calls to S3: retried if that can help, otherwise raised with an explanation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import (
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from headrace.storage.retry_count import count_retry
from headrace.storage.s3_errors import (
    explain,
    is_conflict,
    is_login,
    is_missing,
    is_too_large,
    is_transient,
)
from schemas.errors import HeadraceError

BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 10.0
"""Chosen: six tries in some 6 s outlast a short outage; a longer one is the caller's to retry."""

T = TypeVar("T")


class UploadGone(Exception):
    """The multipart upload is gone and there is no object: start again from the first part."""


class TooLarge(Exception):
    """The server, or a proxy before it, refuses a body of that size in one request."""


class _Undecided(Exception):
    """There is no object yet: send again."""


@dataclass(frozen=True)
class S3Calls:
    """Calls to one bucket with retries; errors are raised as ours."""

    where: str
    attempts: int
    backoff_s: float = BACKOFF_FIRST_S
    renew: Callable[[], bool] = lambda: False
    """Whether there are other credentials by now, which the next call uses."""

    def read(self, name: str, call: Callable[[], T]) -> T:
        """The call's answer. Raises InputUnreadable, InputNotFound or StorageError."""
        return self._tried(name, call, writing=False)

    def write(self, name: str, call: Callable[[], T]) -> T:
        """The call's answer. Raises OutputNotWritable, DiskFull or StorageError."""
        return self._tried(name, call, writing=True)

    def find(self, name: str, call: Callable[[], T], *, writing: bool = False) -> T | None:
        """As `read`, or as `write` if it is part of a write; None if there is no such object."""

        def looked() -> T | None:
            try:
                return call()
            except Exception as error:
                if is_missing(error):
                    return None
                raise

        return self._tried(name, looked, writing=writing)

    def commit(
        self,
        name: str,
        send: Callable[[], Any],
        is_ours: Callable[[], bool | None],
        *,
        of_upload: bool,
    ) -> bool:
        """Whether `send` made the object. If the reply leaves that open, `is_ours` decides.

        `is_ours` returns None if there is no object: then `send` is called again.

        Raises:
            UploadGone: `of_upload`, and the upload is gone.
            TooLarge: not `of_upload`, and the body is too large for one request.
            OutputNotWritable, DiskFull, StorageError: as for `write`.
        """

        def attempt() -> bool:
            try:
                send()
                return True
            except HeadraceError:
                raise
            except Exception as error:
                if is_too_large(error) and not of_upload:
                    raise TooLarge from error
                if is_login(error) and self.renew():
                    raise _Undecided from error
                if not (is_transient(error) or is_conflict(error)):
                    raise self._explained(error, name, writing=True) from error
                ours = is_ours()
                if ours is not None:
                    return ours
                if of_upload and is_conflict(error):
                    raise UploadGone from error
                raise _Undecided from error

        try:
            return self._retrying(retry_if_exception_type(_Undecided))(attempt)
        except _Undecided as doubt:
            cause = doubt.__cause__ or doubt
            raise self._explained(cause, name, writing=True) from cause

    def _tried(self, name: str, call: Callable[[], T], *, writing: bool) -> T:
        try:
            return self._retrying(retry_if_exception(self._may_help))(call)
        except HeadraceError:  # raised from itself, an error would be its own cause, without end
            raise
        except Exception as error:
            raise self._explained(error, name, writing=writing) from error

    def _may_help(self, error: BaseException) -> bool:
        """Whether the call is worth another try at once."""
        return is_transient(error) or (is_login(error) and self.renew())

    def _retrying(self, retry: Any) -> Retrying:
        return Retrying(
            retry=retry,
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(multiplier=self.backoff_s, max=BACKOFF_LAST_S),
            before_sleep=count_retry,
            reraise=True,
        )

    def _explained(self, error: BaseException, name: str, *, writing: bool) -> HeadraceError:
        return explain(error, self.where, name, writing=writing)
