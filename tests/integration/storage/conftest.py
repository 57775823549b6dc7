"""What tests of stores share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from headrace.storage.store import Store

PART = 5 * 2**20
"""Required: the least that S3 takes for a part that is not the last."""


@pytest.fixture(autouse=True)
def _scratch_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scratch folder is its caller's to remove; these tests leave that to pytest."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def names(store: Store, prefix: str = "") -> list[str]:
    return [info.name for info in store.list(prefix)]
