"""The style of all pages: colours, type, tables, cards, light and dark."""

from __future__ import annotations

from pathlib import Path


def base_style() -> str:
    """CSS; a page adds rules of its own after it."""
    return (Path(__file__).parent / "base.css").read_text()
