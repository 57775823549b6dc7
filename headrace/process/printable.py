"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations

import re

# C0 and C1 without tab and newline, DEL, and what reorders the text around it (Unicode UAX #9).
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""The text with control characters as `\x1b`, so that it moves no cursor and hides nothing.

    Lone surrogates, which file names that are not UTF-8 have, become `\udc80`.
    """
    safe = _CONTROL.sub(lambda m: _escaped(m[0]), text)
    return safe.encode("utf-8", "backslashreplace").decode()


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
