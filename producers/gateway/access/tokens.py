"""Single sign-on: tokens that an OpenID provider has signed, verified by its published keys.

Sources: RFC 7519 (JWT), RFC 7517 (JWKS), OpenID Connect Core 1.0, section 3.1.3.7; RFC 8725, which
says to fix the algorithms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jwt

from headrace.settings import Settings
from headrace.storage.uri import normalise_uri
from producers.gateway.access.signing_keys import SigningKeys, UnknownKey, fetch_keys
from producers.gateway.problems import Problem
from producers.gateway.records import SCOPES, KeyRecord, Scope
from schemas.errors import ConfigError

ALGORITHMS = ("RS256", "ES256")
"""Never what the token says: `none` and HMAC with a public key would be a forger's."""
LEEWAY_S = 30
"""Chosen: clocks of two hosts differ by seconds."""
MOST_CHARACTERS = 16_000
"""Of a token; the head of a request is limited to 64 kB."""


class BadToken(Exception):
    """The token is not one of this gateway's provider, for this gateway, now."""


class Tokens:
    """Verifies tokens of one issuer for one audience; thread-safe."""

    def __init__(self, settings: Settings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys

    def caller(self, token: str) -> KeyRecord:
        """What the owner of the token may do, as if it were a key.

        Raises:
            Problem: 401, it cannot be trusted, or says something that has no meaning; 503, the
                provider's keys cannot be read.
        """
        try:
            return record_of(self._claims(token), self._settings)
        except BadToken as error:
            raise _refused(error) from None

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MOST_CHARACTERS:
            raise BadToken("it is too long")
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in ALGORITHMS:
                raise BadToken(f"its algorithm is not {' or '.join(ALGORITHMS)}")
            key = self._keys.find(str(head.get("kid", "")))
            if key.algorithm_name != head["alg"]:
                raise BadToken("its algorithm is not that of its key")
            found: dict[str, Any] = jwt.decode(
                token, key, algorithms=[*ALGORITHMS], leeway=LEEWAY_S,
                audience=self._settings.gateway_oidc_audience,
                issuer=self._settings.gateway_oidc_issuer,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except (jwt.PyJWTError, UnknownKey, ValueError, TypeError) as error:
            raise BadToken(str(error)) from error
        return found


def record_of(claims: Mapping[str, Any], settings: Settings) -> KeyRecord:
    """The rights that the claims of a verified token give.

    Raises:
        BadToken: a claim has another type than it should.
    """
    subject = claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise BadToken("its sub is no text")
    name = claims.get("email") or claims.get("preferred_username") or subject
    shown = "".join(c for c in str(name) if c.isprintable())[:64] or "?"
    words = _words(claims, settings.gateway_oidc_scopes_claim)
    asked = settings.gateway_oidc_scopes if words is None else words
    scopes: tuple[Scope, ...] = tuple(
        scope for scope in SCOPES if scope in asked or f"headrace:{scope}" in asked
    )
    prefixes = _words(claims, settings.gateway_oidc_prefixes_claim)
    if prefixes is not None and not prefixes:
        raise BadToken("its claim of prefixes is empty")  # for a key that would mean everywhere
    return KeyRecord(
        id=owner_of(str(claims["iss"]), subject), name=shown, scopes=scopes,
        prefixes=tuple(map(normalise_uri, prefixes or ())),
        quota_tokens=settings.gateway_oidc_quota_tokens, created_s=0.0,
    )  # fmt: skip


def owner_of(issuer: str, subject: str) -> str:
    """The name under which the things of a person are listed; the same for each of their tokens."""
    return f"oidc_{hashlib.sha256(f'{issuer} {subject}'.encode()).hexdigest()[:32]}"


def _words(claims: Mapping[str, Any], name: str) -> list[str] | None:
    """The words of a claim, a text with spaces or a list; None if it is not there."""
    value = claims.get(name)
    if value is None:
        return None
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadToken(f"its claim {name} is neither a text nor a list of texts")
    return words


def open_tokens(settings: Settings) -> Tokens:
    """The check of tokens by the settings.

    Raises:
        ConfigError: no audience, or an address that is not https.
    """
    issuer = settings.gateway_oidc_issuer or ""
    if not settings.gateway_oidc_audience:
        raise ConfigError(
            "gateway_oidc_issuer needs gateway_oidc_audience: without it, a token that the provider "
            "has made for another application would be taken here"
        )
    return Tokens(settings, SigningKeys(fetch_keys(issuer, settings.gateway_oidc_jwks_url)))


def _refused(error: BadToken) -> Problem:
    """401, with the reason."""
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return Problem(
        401, f"this token is not taken: {error}", code="invalid_token", headers=challenge
    )
