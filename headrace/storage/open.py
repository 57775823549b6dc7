"""From a path or URI to a store: cleaned, checked against what is allowed, and opened.

A local path is written as an absolute path, a bucket as `s3://bucket/prefix`; there is no third.
"""

from __future__ import annotations

import os
import re
import uuid
from urllib.parse import unquote

from headrace.settings import Settings
from headrace.storage.local import LocalStore
from headrace.storage.s3 import S3Store
from headrace.storage.store import Store
from schemas.errors import ConfigError, OutputNotWritable, UriNotAllowed

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$")


def normalise_uri(path_or_uri: str) -> str:
    """The one spelling of a place: `/absolute/path` or `s3://bucket/key`, no `/` at the end.

    Characters of globs and templates (`*`, `?`, `{date}`) stay as they are.

    Raises:
        ConfigError: empty, another scheme, no bucket, `..` in a key, or credentials in the URI.
    """
    if not path_or_uri or "\0" in path_or_uri:
        raise ConfigError("a path or URI is empty or holds NUL")
    found = _SCHEME.match(path_or_uri)
    if found is None:
        return os.path.abspath(os.path.expanduser(path_or_uri))
    scheme, rest = found.group(1).lower(), path_or_uri[found.end() :]
    if scheme == "file":
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise ConfigError(f"{mask_uri(path_or_uri)}: write file:///absolute/path")
        return os.path.abspath("/" + unquote(path))
    if scheme == "s3":
        return _normalise_s3(rest)
    raise ConfigError(f"{mask_uri(path_or_uri)}: only local paths, file:// and s3:// are known")


def split_uri(uri: str) -> tuple[str, str]:
    """The folder's URI and the last name in it; no name at the top of a bucket or a disk."""
    clean = normalise_uri(uri)
    folder, _, name = clean.rpartition("/")
    if folder in ("s3:/", "s3:"):
        return clean, ""
    return folder or "/", name


def mask_uri(uri: str) -> str:
    """The URI with `***` for credentials, fit for messages and logs."""
    # A secret may hold / and @: after `key:` the last @ ends it.
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/@]*:.*|[^/@]*)@", r"\1***@", uri)


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


def _normalise_s3(rest: str) -> str:
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket or re.match(r"^[^/@]*:.*@", rest):
        raise ConfigError(
            "s3://***: no credentials in a URI; use AWS_ACCESS_KEY_ID, a profile or a role"
        )
    if not _BUCKET.match(bucket):
        raise ConfigError(f"s3://{bucket}: the bucket's name is missing or not one")
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ConfigError(f"s3://{bucket}/{key}: .. has no meaning in a bucket")
    return "/".join([f"s3://{bucket}", *parts])


def _followed(uri: str) -> str:
    return uri if uri.startswith("s3://") else os.path.realpath(uri)
