"""From a path or URI to a store: cleaned, checked against what is allowed, and opened.

A local path is written as an absolute path, a bucket as `s3://bucket/prefix`; there is no third.
"""

from __future__ import annotations

import os
import uuid

from headrace.settings import Settings
from headrace.storage.local import LocalStore
from headrace.storage.s3 import S3Store
from headrace.storage.store import Store
from headrace.storage.uri import mask_uri, normalise_uri
from schemas.errors import OutputNotWritable, UriNotAllowed


def open_store(uri: str, settings: Settings) -> Store:
    """The store at the URI; nothing is read or written yet.

    Raises:
        UriNotAllowed: it is outside `allowed_prefixes`.
        ConfigError: see `normalise_uri`.
        MissingExtra: `s3://` without boto3.
    """
    clean = normalise_uri(uri)
    check_allowed(clean, settings)
    if not clean.startswith("s3://"):
        # where prefixes are configured, a link must not lead out of them; else it is the user's own
        return LocalStore(clean, follow_links=not settings.allowed_prefixes)
    bucket, _, prefix = clean.removeprefix("s3://").partition("/")
    return S3Store(
        bucket,
        prefix,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        path_style=settings.s3_path_style,
        sse=settings.s3_sse,
        sse_kms_key_id=settings.s3_sse_kms_key_id,
        timeout_s=settings.storage_timeout_s,
        attempts=settings.storage_attempts,
    )


def check_allowed(uri: str, settings: Settings) -> None:
    """Nothing, when the URI lies in an allowed prefix, also after symlinks are followed.

    Raises:
        UriNotAllowed: it does not.
    """
    if not settings.allowed_prefixes:
        return
    place = _followed(normalise_uri(uri))
    for prefix in settings.allowed_prefixes:
        allowed = _followed(normalise_uri(prefix))
        if place == allowed or place.startswith(allowed.rstrip("/") + "/"):
            return
    raise UriNotAllowed(f"{mask_uri(uri)} is outside the prefixes of the setting allowed-prefixes")


def probe_store(store: Store) -> None:
    """Nothing, when the store keeps its word that one of two creators wins; leaves nothing behind.

    Raises:
        OutputNotWritable: no rights, or it created the same name twice.
        StorageError: it failed.
    """
    _probe_create(store)
    if isinstance(store, S3Store):  # a server may keep it for a PUT and not for a multipart upload
        _probe_create(store.by_parts())


def _probe_create(store: Store) -> None:
    name = f"_headrace/probe-{uuid.uuid4().hex}"
    try:
        first, second = store.create(name, b"first"), store.create(name, b"second")
        content = store.read(name)
    finally:
        store.delete(name)
    if (first, second, content) != (True, False, b"first"):
        raise OutputNotWritable(
            f"{store.uri} cannot create only-if-absent (created {first}, again {second}); headrace "
            "needs a store that can: S3 with If-None-Match, or a disk with hard links"
        )


def _followed(uri: str) -> str:
    return uri if uri.startswith("s3://") else os.path.realpath(uri)
