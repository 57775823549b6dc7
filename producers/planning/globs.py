"""Globs as regular expressions over names of objects."""

from __future__ import annotations

import re


def glob_to_regex(pattern: str) -> str:
    """A regular expression for names: `**` crosses folders, `*`, `?` and `[…]` do not.

    A folder that matches includes everything in it; that part is the group `below`.
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] in "*?":
            out.append("[^/]*" if pattern[at] == "*" else "[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            out.append(f"(?!/)[{'^' + inner[1:] if inner[0] == '!' else inner}]")
            at = end + 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return "".join(out) + "(?P<below>/.+)?"
