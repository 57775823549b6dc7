"""Addresses of files and folders: their one spelling, their parts, and how they are shown without secrets."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from schemas.errors import ConfigError

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
