"""What failed attempts say: the host, the job, or neither."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.coordination.attempts import RETRY
from headrace.coordination.excluded_hosts import host_of
from headrace.coordination.leases import HELD, READING
from producers.tracking.failures import FEW, JobFailures, untried
from producers.tracking.lost_chunks import fate_of
from schemas.records.manifest import Attempt

SICK, WELL = "sick-10", "well-20"
HOSTS = frozenset({SICK, WELL})


def failed(host: str, cause: str = "input_changed", **more: Any) -> Attempt:
    facts = {
        "chunk": 0,
        "number": 1,
        "attempt": "a",
        "rows": (),
        "stage": READING,
        "message": "no such file",
        "retryable": cause != "input_changed",
        **more,
    }
    return Attempt(cause=cause, worker=f"{host}-3", **facts)


def crashed(host: str) -> Attempt:
    return failed(host, "worker_lost", rows=(1, 2), message="")


@pytest.mark.parametrize(
    ("worker", "host"),
    [
        ("node7-4123-0", "node7-4123"),
        ("my-node-4123-11", "my-node-4123"),
        ("w1", "w1"),
        ("a-b", "a-b"),
    ],
)
def test_the_workers_of_one_fleet_are_one_host(worker: str, host: str) -> None:
    assert host_of(worker) == host


# -- the host


def test_a_host_is_at_fault_after_a_few_chunks_that_failed_nowhere_else() -> None:
    found = JobFailures(100)
    for chunk in range(FEW):
        assert found.at_fault(HOSTS) == []
        found.add(chunk, [failed(SICK)])
    (failure,) = found.at_fault(HOSTS)
    assert (failure.host, failure.cause, failure.message) == (SICK, "input_changed", "no such file")
    found.forget(SICK)
    assert found.at_fault(HOSTS) == []


def test_one_chunk_that_fails_again_and_again_is_not_the_hosts_fault() -> None:
    found = JobFailures(100)
    for n in range(1, 10):
        found.add(7, [failed(SICK)] * n)
    assert found.at_fault(HOSTS) == []


def test_chunks_that_fail_on_every_host_are_no_hosts_fault() -> None:
    found = JobFailures(100)
    for chunk in range(10):
        found.add(chunk, [failed(SICK)])
        found.add(chunk, [failed(SICK), failed(WELL)])
    assert found.at_fault(HOSTS) == []


def test_no_host_is_at_fault_where_there_is_no_other() -> None:
    found = JobFailures(100)
    for chunk in range(10):
        found.add(chunk, [failed(SICK)])
    assert found.at_fault({SICK}) == []
    for chunk in range(10, 20):
        found.add(chunk, [failed(WELL)])
    assert found.at_fault(HOSTS) == [], "then all of them fail, each on chunks of its own"


def test_a_crash_is_looked_for_in_the_rows_and_a_read_that_hangs_in_the_host() -> None:
    found = JobFailures(100)
    for chunk in range(10):
        found.add(chunk, [crashed(SICK)])
    assert found.at_fault(HOSTS) == []
    for chunk in range(10, 10 + FEW):
        found.add(chunk, [failed(SICK, "timeout", stage="disk")])
    assert [f.cause for f in found.at_fault(HOSTS)] == ["timeout"]


# -- the job


def test_an_error_before_the_first_row_on_every_host_is_the_jobs() -> None:
    found = JobFailures(100)
    for chunk in range(FEW):
        assert found.shared(frozenset({SICK})) is None
        found.add(chunk, [failed(SICK, "missing_extra", stage=HELD, message="no torch")])
    shared = found.shared(frozenset({SICK}))
    assert shared is not None
    assert (shared.cause, shared.message) == ("missing_extra", "no torch")
    assert found.shared(HOSTS) is None, "the other may have the package"
    assert found.shared(frozenset()) is not None, "no host is known to live: what was seen counts"


def test_a_job_of_one_chunk_needs_one_failure() -> None:
    found = JobFailures(1)
    found.add(0, [failed(SICK, "model_error", stage=HELD)])
    assert found.shared(frozenset({SICK})) is not None


def test_an_error_while_rows_were_read_is_not_the_jobs() -> None:
    found = JobFailures(100)
    for chunk in range(50):
        found.add(chunk, [failed(SICK)])
    assert found.shared(frozenset({SICK})) is None


# -- a chunk that was lost


def fate(attempts: list[Attempt], **more: Any) -> Any:
    return fate_of(5, attempts, 100, 3, 1000.0, 0.5, **more)


def test_what_one_host_cannot_do_does_not_count_while_another_has_not_tried() -> None:
    for n in (1, 3, 50):
        found = fate([failed(SICK)] * n, hosts=HOSTS)
        assert (found.parked, found.fatal) == (None, None)
        assert 0 < found.wait_s <= 5
    many = [failed(SICK, "storage_error")] * 50
    assert fate(many, hosts=HOSTS).parked is None
    assert fate(many, hosts=frozenset({SICK})).parked.cause == "storage_error"


def test_crashes_count_whatever_the_hosts_do() -> None:
    lost = [failed(SICK, "worker_lost", stage="write")] * 3
    assert fate(lost, hosts=HOSTS).parked.cause == "worker_lost"


def test_an_input_that_every_host_calls_changed_ends_the_job() -> None:
    found = fate([failed(SICK), failed(WELL)], hosts=HOSTS)
    assert (found.parked.cause, found.fatal) == ("input_changed", "no such file")
    assert fate([failed(SICK)]).fatal == "no such file", "no host is known to live"


def test_the_controller_looks_for_itself_before_it_calls_an_input_changed() -> None:
    both = [failed(SICK), failed(WELL)]
    found = fate(both, hosts=HOSTS, is_unchanged=lambda: True)
    assert (found.parked, found.fatal) == (None, None)
    assert found.wait_s > 0
    often = fate(both * 3, hosts=HOSTS, is_unchanged=lambda: True)
    assert (often.parked.cause, often.fatal) == ("input_changed", None), "the chunk, not the job"


def test_a_retry_by_hand_lets_every_host_try_again() -> None:
    assert untried([failed(SICK)], HOSTS) == {WELL}
    assert untried([failed(SICK), failed(SICK, RETRY)], HOSTS) == HOSTS
