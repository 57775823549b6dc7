"""Makes text from outside safe for a terminal."""

from __future__ import annotations

import re

# C0 and C1 without tab, DEL, line separators, and characters that reorder text (UAX #9).
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""The text on one line, with control characters as `\x1b` and a line break as `\n`.

    So it cannot move the cursor, hide text, or look like a line of headrace.

    Lone surrogates, which file names that are not UTF-8 have, become `\udc80`.
    """
    safe = _CONTROL.sub(lambda m: _escaped(m[0]), text)
    return safe.encode("utf-8", "backslashreplace").decode()


def _escaped(char: str) -> str:
    if char == "\n":
        return r"\n"
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
