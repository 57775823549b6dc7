"""A job that this worker cannot run as it was planned is left to another worker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.storage.local import LocalStore
from headrace.tasks.generation.engines import version_here
from schemas.errors import OutOfReach
from schemas.names import output_layout
from workers.execution.admission import check_served, flags_in


def job(**spec: Any) -> Any:
    known = {
        "task": "fake", "dtype": "float32", "engine": "transformers", "engine_version": None,
        "params": {},
    }  # fmt: skip
    return SimpleNamespace(id="j", spec=SimpleNamespace(**(known | spec)))


def test_a_precision_that_the_device_lacks_is_refused_where_a_model_needs_it() -> None:
    check_served(job(task="text-classification"), "cpu")
    check_served(job(task="fake", dtype="float16"), "cpu")
    with pytest.raises(OutOfReach, match="float16"):
        check_served(job(task="text-classification", dtype="float16"), "cpu")


def test_another_version_of_the_engine_is_refused() -> None:
    here = version_here("transformers")
    assert here is not None
    check_served(job(task="text-generation", engine_version=here), "cpu")
    with pytest.raises(OutOfReach, match="never mixes engines"):
        check_served(job(task="text-generation", engine_version="0.0.1"), "cpu")
    choices = {"choices": '["a","b"]'}
    with pytest.raises(OutOfReach, match=r"this worker has .*, llguidance"):
        check_served(job(task="text-generation", engine_version=here, params=choices), "cpu")


def test_the_stop_flags_of_an_output_are_read(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path), follow_links=True)
    assert flags_in(store) == set()
    store.create(output_layout.PAUSED, b"")
    assert flags_in(store) == {"paused"}
    store.create(output_layout.CANCELLED, b"")
    assert flags_in(store) == {"paused", "cancelled"}
