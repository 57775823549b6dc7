"""The page of the Python API is what the docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import headrace

ROOT = Path(__file__).parents[3]


def made() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "write_python_page.py"))


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    assert page == made()["python_page"](), "run: python docs/write_python_page.py"


def test_every_public_name_is_on_the_page() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    missing = [name for name in headrace.__all__ if name not in page]
    assert missing == ["JobOptions"], "its fields are the table of options"
