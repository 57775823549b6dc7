"""Fixtures of the unit floor."""

from __future__ import annotations

import gc

import pytest

from tests.unit.tiny_models import TinyModels

# All that is imported stays, and young garbage is looked for at each 700 objects: a tenth of the time.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Folders of tiny random models, each made once a session."""
    return TinyModels(tmp_path_factory.mktemp("models"))
