"""Identifies the sender of a request and what it may do."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from headrace.settings import Settings
from headrace.storage.open import check_allowed
from headrace.storage.uri import is_local_uri
from producers.gateway.problems import Problem
from producers.gateway.records import KeyRecord, Scope
from producers.gateway.state import Gateway, gateway_of

LOCAL = KeyRecord(
    id="local", name="local", scopes=("submit", "read", "admin"), quota_tokens=None, created_s=0.0
)
"""The caller where there are no keys: the user of this machine."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A request's key, or the local user."""

    key: KeyRecord

    @property
    def owner(self) -> str:
        """The name under which its jobs and files are listed."""
        return self.key.id

    @property
    def sees_all(self) -> bool:
        return "admin" in self.key.scopes

    def need(self, scope: Scope) -> None:
        """Check the scope.

        Raises:
            Problem: 403, the key lacks it.
        """
        if scope not in self.key.scopes:
            raise Problem(403, f"this key has no scope {scope!r}", code="missing_scope")

    def settings_for(self, settings: Settings, *places: str) -> Settings:
        """The settings for a job of this caller that uses these addresses.

        Raises:
            UriNotAllowed: an address is outside the gateway's prefixes, or outside the key's.
        """
        if not self.key.prefixes:
            return settings
        narrow = settings.model_copy(update={"allowed_prefixes": self.key.prefixes})
        for place in places:
            check_allowed(place, settings)
            check_allowed(place, narrow)
        return narrow


def caller_of(request: Request) -> Caller:
    """The caller of the request, by `Authorization: Bearer KEY`, or the password of Basic.

    A token of the OpenID provider may take the key's place.

    Raises:
        Problem: 401, no key or one that is not known; see `Tokens`.
    """
    gateway = gateway_of(request)
    if not gateway.needs_keys:
        return Caller(LOCAL)
    key = _key_in(request.headers.get("authorization", ""))
    if gateway.tokens is not None and key.count(".") == 2:  # header, claims and signature
        return Caller(gateway.tokens.caller(key))
    record = gateway.keyring.find(key) if key else None
    if record is None:
        is_page = not request.url.path.startswith("/v1/")
        scheme = 'Basic realm="headrace", charset="UTF-8"' if is_page else "Bearer"
        raise Problem(
            401,
            "give a key of this gateway: Authorization: Bearer hr-…",
            code="invalid_api_key",
            headers={"WWW-Authenticate": scheme},
        )
    return Caller(record)


def reader_of(request: Request) -> Caller:
    """The caller, who may read."""
    caller = caller_of(request)
    caller.need("read")
    return caller


def submitter_of(request: Request) -> Caller:
    """The caller, who may submit."""
    caller = caller_of(request)
    caller.need("submit")
    return caller


def admin_of(request: Request) -> Caller:
    """The caller, who may do everything."""
    caller = caller_of(request)
    caller.need("admin")
    return caller


Reader = Annotated[Caller, Depends(reader_of)]
Submitter = Annotated[Caller, Depends(submitter_of)]
Admin = Annotated[Caller, Depends(admin_of)]
State = Annotated[Gateway, Depends(gateway_of)]


def _key_in(header: str) -> str:
    """The key in a header; empty where there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def is_address(model: str) -> bool:
    """Whether a model's name is an address: a folder on this host, or a bucket."""
    return not is_local_uri(model) or model.startswith(("/", ".", "~"))
