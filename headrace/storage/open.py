"""Opens a store from a path or URI: normalized, and checked against the allowed prefixes.

A local path becomes absolute; a bucket is `s3://bucket/prefix`. Another kind of store is one file
beside this one, a row in `_STORES` and one in `headrace.storage.uri`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from headrace.settings import Settings
from headrace.storage.local import LocalStore
from headrace.storage.s3 import S3Options, S3Store
from headrace.storage.store import Store
from headrace.storage.uri import is_local_uri, mask_uri, normalise_uri, scheme_of
from schemas.errors import UriNotAllowed


def open_store(uri: str, settings: Settings) -> Store:
    """The store at the URI; nothing is read or written yet.

    Raises:
        UriNotAllowed: it is outside `allowed_prefixes`.
        ConfigError: see `normalise_uri`.
        MissingExtra: `s3://` without boto3.
    """
    clean = normalise_uri(uri)
    check_allowed(clean, settings)
    return _STORES[scheme_of(clean)](clean, settings)


def _open_folder(path: str, settings: Settings) -> Store:
    # if prefixes are configured, a link must not leave them; otherwise it is the user's choice
    return LocalStore(path, follow_links=not settings.allowed_prefixes)


def _open_bucket(uri: str, settings: Settings) -> Store:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    options = S3Options(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        path_style=settings.s3_path_style,
        sse=settings.s3_sse,
        sse_kms_key_id=settings.s3_sse_kms_key_id,
        requester_pays=settings.s3_requester_pays,
        timeout_s=settings.storage_timeout_s,
        attempts=settings.storage_attempts,
    )
    return S3Store(bucket, prefix, options)


_STORES: dict[str, Callable[[str, Settings], Store]] = {
    "file": _open_folder,
    "s3": _open_bucket,
}


def check_allowed(uri: str, settings: Settings) -> None:
    """Check that the URI is under an allowed prefix, also after symlinks are followed.

    Raises:
        UriNotAllowed: it is not.
    """
    if not settings.allowed_prefixes:
        return
    place = _followed(normalise_uri(uri))
    for prefix in settings.allowed_prefixes:
        allowed = _followed(normalise_uri(prefix))
        if place == allowed or place.startswith(allowed.rstrip("/") + "/"):
            return
    raise UriNotAllowed(f"{mask_uri(uri)} is outside the prefixes of the setting allowed-prefixes")


def _followed(uri: str) -> str:
    return os.path.realpath(uri) if is_local_uri(uri) else uri
