"""Where our own kernels do not run, nothing else fails for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NoReturn

import pytest
import torch

from workers.devices.device import is_lost
from workers.engines.packed.kernels import kernels


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    kernels.cache_clear()
    yield
    kernels.cache_clear()


def no_compiler() -> NoReturn:
    raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")


def test_without_a_compiler_torch_does_it_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = SimpleNamespace(try_out=no_compiler)
    monkeypatch.setitem(sys.modules, "workers.engines.packed.triton_kernels", module)
    with caplog.at_level(logging.WARNING):
        assert kernels() is None
        assert kernels() is None
    assert [r.getMessage().count("C compiler") for r in caplog.records] == [1]


def test_without_triton_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "workers.engines.packed.triton_kernels", None)
    assert kernels() is None
    assert caplog.records == []


def test_a_kernel_that_ran_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(try_out=lambda: None)
    monkeypatch.setitem(sys.modules, "workers.engines.packed.triton_kernels", module)
    assert kernels() is module


def test_a_torch_without_cuda_is_no_lost_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert not is_lost("cuda:0")
    assert not is_lost("cpu")
