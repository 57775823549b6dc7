"""What needs a GPU: run by hand, `python -m pytest tests/gpu`; no part of CI."""

from __future__ import annotations

import pytest
import torch

from tests.unit.tiny_models import TinyModels


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.fail("tests/gpu needs a GPU, and torch sees none")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Folders of tiny random models, each made once a session."""
    return TinyModels(tmp_path_factory.mktemp("models"))
