"""Our own kernels, if they can be compiled here."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from workers.devices.device import CPU

log = logging.getLogger(__name__)


@cache
def kernels() -> Any:
    """The module `triton_kernels`; None where they do not run, and torch's own functions must do.

    Triton comes with torch's builds for CUDA, but it compiles for the driver that is there: that
    takes a C compiler and a folder to write to (`TRITON_CACHE_DIR`). Asked of a GPU only.
    """
    try:
        from workers.engines.packed import triton_kernels

        triton_kernels.try_out()
    except ImportError:
        return None
    except Exception as error:  # as many ways to fail as there are compilers
        log.warning(
            "Triton cannot compile here, short rows and layers take longer: %s: %s",
            type(error).__name__, str(error)[:300],
        )  # fmt: skip
        return None
    return triton_kernels


def warm_up(device: str) -> None:
    """Let a GPU's driver and libraries load: the first use of a process waits for them.

    Raises RuntimeError where there is no such GPU.
    """
    if device == CPU:
        return
    import torch

    kernels()
    one = torch.ones(16, 16, device=device)
    torch.mm(one, one)  # cuBLAS
