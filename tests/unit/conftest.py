"""Fixtures of the unit floor."""

from __future__ import annotations

import pytest

from tests.unit.tiny_models import TinyModels


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Folders of tiny random models, each made once a session."""
    return TinyModels(tmp_path_factory.mktemp("models"))
