"""Paged lists in OpenAI's format: objects, and whether there are more. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def page_of(
    ids: Iterable[str],
    load: Callable[[str], dict[str, Any] | None],
    limit: int,
    after: str | None,
) -> dict[str, Any]:
    """At most `limit` objects from `load`, for the ids after a given one; None is left out."""
    found: list[dict[str, Any]] = []
    has_more = False
    for id in ids:
        if after is not None and id <= after:
            continue
        item = load(id)
        if item is None:
            continue
        if len(found) == limit:
            has_more = True
            break
        found.append(item)
    return {
        "object": "list",
        "data": found,
        "first_id": found[0]["id"] if found else None,
        "last_id": found[-1]["id"] if found else None,
        "has_more": has_more,
    }
