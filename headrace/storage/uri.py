"""URIs of files and folders: normalized, split, and shown without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

from schemas.errors import ConfigError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


_BUCKET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$")


def normalise_uri(path_or_uri: str) -> str:
    """The normalized URI: `/absolute/path` or `s3://bucket/key`, no `/` at the end.

    Characters of globs and templates (`*`, `?`, `{date}`) are kept.

    Raises:
        ConfigError: empty, another scheme, no bucket, `..` in a key, or credentials in the URI.
    """
    if not path_or_uri or "\0" in path_or_uri:
        raise ConfigError("a path or URI is empty or holds NUL")
    found = _SCHEME.match(path_or_uri)
    if found is None:
        return os.path.abspath(os.path.expanduser(path_or_uri))
    scheme, rest = found.group(1).lower(), path_or_uri[found.end() :]
    if scheme not in _NORMALISE:
        known = ", ".join(f"{name}://" for name in _NORMALISE)
        raise ConfigError(f"{mask_uri(path_or_uri)}: only local paths, {known} are known")
    return _NORMALISE[scheme](rest)


def scheme_of(path_or_uri: str) -> str:
    """`file` for a path or a file:// URI, else the URI's scheme in lower case."""
    found = _SCHEME.match(path_or_uri)
    return found.group(1).lower() if found else "file"


def is_local_uri(path_or_uri: str) -> bool:
    """Whether it is a path on this host's file system."""
    return scheme_of(path_or_uri) == "file"


def split_uri(uri: str) -> tuple[str, str]:
    """The folder's URI and the last name; the name is empty for the root of a bucket or a disk."""
    clean = normalise_uri(uri)
    folder, _, name = clean.rpartition("/")
    if folder.endswith(":/"):  # s3://bucket
        return clean, ""
    return folder or "/", name


def mask_uri(uri: str) -> str:
    """The URI with `***` for credentials, for messages and logs."""
    # A secret may hold / and @: after `key:` the last @ ends it.
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/@]*:.*|[^/@]*)@", r"\1***@", uri)


def _normalise_file(rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise ConfigError(f"{mask_uri(f'file://{rest}')}: write file:///absolute/path")
    return os.path.abspath("/" + unquote(path))


def _normalise_bucket(scheme: str, credentials: str, rest: str) -> str:
    """`credentials` says where they belong instead, for the message."""
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket or re.match(r"^[^/@]*:.*@", rest):
        raise ConfigError(f"{scheme}://***: no credentials in a URI; use {credentials}")
    if not _BUCKET.match(bucket):
        raise ConfigError(f"{scheme}://{bucket}: the bucket's name is missing or not one")
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ConfigError(f"{scheme}://{bucket}/{key}: .. has no meaning in a bucket")
    return "/".join([f"{scheme}://{bucket}", *parts])


_normalise_s3 = partial(_normalise_bucket, "s3", "AWS_ACCESS_KEY_ID, a profile or a role")

_NORMALISE: dict[str, Callable[[str], str]] = {
    "file": _normalise_file,
    "s3": _normalise_s3,
    "s3a": _normalise_s3,
}
"""By scheme: a function from what follows `://` to the normalized URI."""
