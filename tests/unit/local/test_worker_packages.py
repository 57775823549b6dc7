from __future__ import annotations

import pytest

from producers.local.worker_packages import require_worker_packages
from schemas.errors import ExitCode, MissingExtra


def test_a_package_that_the_workers_here_lack_is_named_before_anything_is_written() -> None:
    with pytest.raises(
        MissingExtra, match=r"needs no_such_package on this machine.*headrace\[cpu\]"
    ) as it:
        require_worker_packages("text-classification", ("json", "no_such_package"))
    assert it.value.exit_code == ExitCode.MISSING_EXTRA


def test_a_task_without_an_engine_needs_none() -> None:
    require_worker_packages("fake", ("no_such_package",))


def test_a_job_of_vllm_needs_its_python_here() -> None:
    with pytest.raises(MissingExtra, match="--vllm-python, or HEADRACE_VLLM_PYTHON"):
        require_worker_packages("text-generation", ("json",), engine="vllm")
    require_worker_packages("text-generation", ("json",), engine="vllm", vllm_python="/a/python")
