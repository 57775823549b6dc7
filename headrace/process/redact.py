"""Removes credentials from text that people will see."""

from __future__ import annotations

import re

MASK = "***"
MAX_TEXT = 2_000
"""Characters of one value that are written; chosen: an error message fits, a document does not."""

# a password may contain `@` and `/`: everything up to the word's last `@` is removed
_USERINFO = re.compile(r"(?<=://)[^\s'\"<>]*@")
_QUERY = re.compile(
    r"(?i)\b((?:x-amz-(?:signature|credential|security-token)|[a-z_\-]*(?:password|passwd|secret|api[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?)|(?:access|auth|session|refresh|security)[_-]?token|sig|signature)['\"]?\s*[=:]\s*['\"]?)"
    r"[^\s&,;'\"]+"
)
_HEADER = re.compile(
    r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?|bearer\s+|basic\s+(?=[a-z0-9+/]{8}))(?:(?:bearer|basic)\s+)?[^\s'\",;]+"
)
_KNOWN_KEYS = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bhf_[A-Za-z0-9]{20,}\b")
_SECRET_NAME = re.compile(
    r"(?i)(password|passwd|secret|credential|authorization|api_?key|access_?key|(^|_)token$)"
)


def redact(text: str) -> str:
    """The text without user names and passwords in URIs, signatures, keys and tokens."""
    text = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    if "@" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    return _KNOWN_KEYS.sub(MASK, _QUERY.sub(rf"\g<1>{MASK}", text))


def is_secret_name(name: str) -> bool:
    """Whether the value of a field of this name is never written."""
    return _SECRET_NAME.search(name) is not None
