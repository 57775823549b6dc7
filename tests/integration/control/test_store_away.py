"""A store that answers 503, refuses or is full while a job runs: waited for, counted in no attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headrace.coordination.attempts import read_attempts
from headrace.storage.local import LocalStore
from headrace.storage.store import ObjectInfo
from producers.control.controller import Controller
from producers.driver.drive import follow
from producers.driver.session import Broker
from producers.records.snapshot import Snapshot
from schemas.errors import DiskFull, HeadraceError, OutputNotWritable, StorageError
from tests.conftest import wait_until
from tests.fake_jobs import FakeJob
from tests.integration.controller_house import House


@dataclass
class Switch:
    """What each call of the stores raises; None: they work."""

    error: HeadraceError | None = None
    only_writes: bool = False

    def meet(self, *, writes: bool) -> None:
        if self.error is not None and (writes or not self.only_writes):
            raise self.error


class AwayStore(LocalStore):
    """A folder that is away while its switch says so."""

    def __init__(self, root: str | Path, switch: Switch) -> None:
        super().__init__(root)
        self._switch = switch

    def head(self, name: str) -> ObjectInfo | None:
        self._switch.meet(writes=False)
        return super().head(name)

    def read(self, name: str) -> bytes | None:
        self._switch.meet(writes=False)
        return super().read(name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._switch.meet(writes=False)
        return super().list(prefix)

    def create(self, name: str, data: bytes) -> bool:
        self._switch.meet(writes=True)
        return super().create(name, data)

    def create_from_file(self, name: str, path: Path) -> bool:
        self._switch.meet(writes=True)
        return super().create_from_file(name, path)

    def replace(self, name: str, data: bytes) -> None:
        self._switch.meet(writes=True)
        super().replace(name, data)


def denied() -> HeadraceError:
    """As S3's 403 is explained."""
    error = OutputNotWritable("access denied (AccessDenied)")
    error.may_pass = True
    return error


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def away(house: House, job: FakeJob, switch: Switch) -> FakeJob:
    """The job, in a store that the worker and the controller find away."""
    store = AwayStore(job.store.uri, switch)
    house.runtime._stores[job.store.uri] = store
    return replace(job, store=store)


def driven(
    house: House, job: FakeJob, turn: Callable[[int], None], give_up_after_s: float
) -> Snapshot:
    """As `run` drives it, with a worker that has its turn between two of the controller's."""
    turns = [0]

    def check() -> None:
        turns[0] += 1
        turn(turns[0])
        house.work(2)

    broker = Broker("", house.client, house.sender)
    return follow(
        job.job, job.store, broker, house.controller, lambda _: None, threading.Event(), check,
        give_up_after_s=give_up_after_s,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "only_writes"),
    [(StorageError("503 SlowDown"), False), (denied(), True), (DiskFull("no space"), True)],
)
def test_run_waits_for_the_store_and_no_attempt_is_counted(
    house: House, away: FakeJob, switch: Switch, error: HeadraceError, only_writes: bool
) -> None:
    switch.only_writes = only_writes

    def turn(number: int) -> None:
        switch.error = error if 2 <= number <= 4 else None

    now = driven(house, away, turn, give_up_after_s=60)
    assert (now.state, now.rows_done) == ("finished", 200)
    switch.error = None
    assert [read_attempts(away.store, chunk) for chunk in range(20)] == [[]] * 20
    away.check()


@pytest.mark.parametrize(
    ("error", "kind", "code", "only_writes"),
    [
        (StorageError("503 SlowDown"), StorageError, 21, False),
        (DiskFull("no space"), DiskFull, 22, True),
        (denied(), StorageError, 21, True),
    ],
)
def test_run_gives_up_in_time_and_resumes_later(
    house: House, away: FakeJob, switch: Switch, error: HeadraceError, kind: Any, code: int,
    only_writes: bool,
) -> None:  # fmt: skip
    switch.only_writes = only_writes

    def turn(number: int) -> None:
        switch.error = error if number >= 2 else None

    with pytest.raises(kind, match=r"--give-up-after.*headrace resume") as given_up:
        driven(house, away, turn, give_up_after_s=1.5)
    assert given_up.value.exit_code == code
    assert str(error) in str(given_up.value)
    switch.error = None
    now = driven(house, away, lambda _: None, give_up_after_s=60)
    assert (now.state, now.rows_done) == ("finished", 200)


def test_what_no_wait_can_help_is_raised_at_once(
    house: House, away: FakeJob, switch: Switch
) -> None:
    def turn(number: int) -> None:
        switch.error = OutputNotWritable("no rights: a folder of another user's")

    with pytest.raises(OutputNotWritable, match="another user"):
        driven(house, away, turn, give_up_after_s=60)


def test_a_standing_controller_ends_a_job_whose_workers_wait_too_long(
    house: House, job: FakeJob
) -> None:
    house.controller.close()
    house.controller = Controller(house.client, house.sender, give_up_after_s=0.3)
    house.follow(job)
    house.runtime.reports.report_failure(job.job.key, 3, "storage_error", "s3://in", waits=True)
    wait_until(lambda: house.tick() or job.job.key in house.controller.ended, 20)
    manifest = house.controller.ended[job.job.key]
    assert manifest.state == "failed"
    assert "waited 0.3 s for the store (--give-up-after): s3://in" in manifest.reason
