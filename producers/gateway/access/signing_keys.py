"""The public keys of an OpenID provider: fetched, kept, and fetched again when a new one is used."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt

from headrace.process.logs import get_logger
from producers.gateway.problems import Problem
from schemas.errors import ConfigError

log = get_logger(__name__)

KEPT_S = 3_600.0
"""Chosen: a key that the provider takes back is taken here for an hour at most."""
AGAIN_S = 10.0
"""Chosen: tokens with invented key ids make one request to the provider in this time, not one each."""
ANSWER_S = 5.0
MOST_BYTES = 1_000_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class UnknownKey(Exception):
    """The provider has no such key."""


class SigningKeys:
    """Keys by their id; thread-safe."""

    def __init__(
        self,
        fetch: Callable[[], Mapping[str, Any]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` returns a JWKS (RFC 7517); it raises OSError or ValueError when it cannot."""
        self._fetch = fetch
        self._now = now
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()

    def find(self, id: str) -> jwt.PyJWK:
        """The key of this id.

        Raises:
            UnknownKey: there is none. Problem: 503, the keys could not be read yet.
        """
        with self._lock:
            is_old = self._now() - self._fetched > KEPT_S
            if (is_old or id not in self._keys) and self._now() - self._tried > AGAIN_S:
                self._read()
            if self._now() - self._fetched > KEPT_S + AGAIN_S:
                raise Problem(
                    503, "the OpenID provider's keys cannot be read", code="oidc_unreachable",
                    retry_after_s=int(AGAIN_S),
                )  # fmt: skip
            if id not in self._keys:
                raise UnknownKey("it is signed with a key that the provider does not have")
            return self._keys[id]

    def _read(self) -> None:
        self._tried = self._now()
        try:
            found = _usable(self._fetch())
        except (OSError, ValueError) as error:
            log.warning("gateway.oidc_unreachable", error_type=type(error).__name__)
            return
        self._keys, self._fetched = found, self._now()


def _usable(keys: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """The keys for signatures; those of other uses or kinds are passed over."""
    found: dict[str, jwt.PyJWK] = {}
    for data in keys.get("keys", []):
        if not isinstance(data, dict) or data.get("use", "sig") != "sig" or "kid" not in data:
            continue
        try:
            found[str(data["kid"])] = jwt.PyJWK.from_dict(data)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
    return found


def fetch_keys(issuer: str, url: str | None) -> Callable[[], Mapping[str, Any]]:
    """Reads the keys at `url`; without one, at the address in the provider's own description.

    Raises:
        ConfigError: an address is not https; http may be used on this machine.
    """
    for given in filter(None, (issuer, url)):
        _refuse_open(given)

    def fetch() -> Mapping[str, Any]:
        if url is not None:
            return _json_at(url)
        described = _json_at(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        return _json_at(str(described.get("jwks_uri")))

    return fetch


def _refuse_open(url: str) -> None:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not is_safe:
        raise ConfigError(f"{url} is not https: keys must come from the provider itself")


def _json_at(url: str) -> dict[str, Any]:
    try:
        _refuse_open(url)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
        data = answer.read(MOST_BYTES + 1)
    found = json.loads(data) if len(data) <= MOST_BYTES else None
    if not isinstance(found, dict):
        raise ValueError(f"{url} has no JSON object of at most {MOST_BYTES:,} bytes")
    return found
