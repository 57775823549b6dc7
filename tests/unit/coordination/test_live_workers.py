"""What the workers of a fleet say of themselves decides what a job is planned for."""

from __future__ import annotations

import pytest

from headrace.coordination.live_workers import LiveWorker
from producers.capacity.device_hint import hint_of


def worker(device: str, *dtypes: str) -> LiveWorker:
    return LiveWorker(
        name=device,
        queue="q",
        device=device,
        host="h",
        pid=1,
        seen_s=0.0,
        dtypes=dtypes,
        job="",
        chunks=(),
    )


GPU = worker("cuda:0", "float32", "bfloat16")
OLD_GPU = worker("cuda:1", "float32", "float16")
CPU = worker("cpu", "float32")


def test_without_a_worker_nothing_is_known() -> None:
    assert hint_of([]) is None


@pytest.mark.parametrize(
    ("fleet", "kind", "bf16"),
    [
        ([GPU, GPU], "cuda", True),
        ([GPU, OLD_GPU], "cuda", False),
        ([GPU, CPU], "cpu", False),
        ([CPU], "cpu", False),
    ],
)
def test_a_precision_is_for_all_of_them(fleet: list[LiveWorker], kind: str, bf16: bool) -> None:
    hint = hint_of(fleet)
    assert hint is not None
    assert (hint.kind, hint.bf16, hint.count) == (kind, bf16, len(fleet))


def test_a_fleet_serves_int8_when_one_of_its_workers_does() -> None:
    fast = worker("cpu", "float32", "int8")
    for fleet, serves in (([CPU], False), ([CPU, fast], True), ([GPU, GPU], False)):
        hint = hint_of(fleet)
        assert hint is not None
        assert hint.int8 is serves
