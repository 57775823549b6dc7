"""Producers that race, or die while they publish; collectors that are down, slow or silent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from headrace.queue.redis_queue import RedisQueue
from headrace.storage.local import LocalStore
from schemas.errors import ExitCode
from schemas.names import output_layout
from schemas.records.job import parse_job
from tests.acceptance.conftest import MakeFleet, Say
from tests.acceptance.harness.fleet import Fleet, lines
from tests.fake_jobs import make_job
from workers.tasks.fake import digest_of


@dataclass
class Submitter:
    """A user with a corpus and the command `headrace submit`."""

    folder: Path
    fleet: Fleet
    texts: list[str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output = self.folder / "out"
        self.store = LocalStore(self.output)
        self.corpus = self.folder / "corpus.parquet"
        pq.write_table(pa.table({"text": self.texts}), self.corpus, row_group_size=20)

    def submit(self, *more: str) -> subprocess.Popen[bytes]:
        words = [
            *("submit", str(self.corpus), "--output", str(self.output), "--wait", "--json"),
            *("--task", "fake", "--chunk-rows", "20"),
            *("--task-params", '{"ms_per_row": 3}', *more),
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        ours = {
            "HEADRACE_BROKER_URL": self.fleet.redis.url,
            "HEADRACE_REGISTRY": str(self.folder / "registry"),
        }
        code = "from producers.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env={**kept, **ours},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def parts(self) -> int:
        return sum(1 for _ in self.store.list(output_layout.DATA))

    def job_id(self) -> str:
        data = self.store.read(output_layout.JOB)
        assert data is not None
        return parse_job(data, "job").id

    def check(self) -> None:
        """Every row of the corpus once, with its own answer."""
        found = ds.dataset(self.output / output_layout.DATA, format="parquet").to_table()
        rows = sorted(zip(found["id"].to_pylist(), found["digest"].to_pylist(), strict=True))
        assert rows == [(n, digest_of(text)) for n, text in enumerate(self.texts)]

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


MakeSubmitter = Callable[[Fleet, int], Submitter]


@pytest.fixture
def make_submitter(tmp_path: Path) -> Iterator[MakeSubmitter]:
    made: list[Submitter] = []

    def make(fleet: Fleet, rows: int) -> Submitter:
        made.append(Submitter(tmp_path, fleet, lines(rows)))
        return made[-1]

    yield make
    for submitter in made:
        submitter.close()


def end_of(process: subprocess.Popen[bytes], fleet: Fleet) -> tuple[int, str, str]:
    fleet.wait(lambda: process.poll() is not None, 90, "the submitter to leave")
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.timeout(200)
def test_13_two_submitters_of_one_job_make_one_job_and_another_is_refused(
    make_fleet: MakeFleet, make_submitter: MakeSubmitter, say: Say
) -> None:
    fleet = make_fleet()
    fleet.start(1)
    us = make_submitter(fleet, 1_200)
    both = [us.submit(), us.submit()]
    other = None
    fleet.wait(lambda: us.store.head(output_layout.JOB), 60, "the job")
    other = us.submit("--limit", "7")
    code, _, err = end_of(other, fleet)
    assert (code, us.output.name in err) == (ExitCode.OUTPUT_CONFLICT, True)
    ends = [end_of(p, fleet) for p in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert all(us.job_id() in out for _, out, _ in ends)
    us.check()
    say("13", f"2 submitters at once: 1 job; another job to that output: exit {code}, refused")


@pytest.mark.timeout(200)
def test_14_a_producer_killed_while_publishing_and_run_again(
    make_fleet: MakeFleet, make_submitter: MakeSubmitter, say: Say
) -> None:
    fleet = make_fleet()
    us = make_submitter(fleet, 4_000)
    first = us.submit()
    fleet.wait(lambda: RedisQueue(fleet.client, None).read("default").messages > 10, 60, "messages")
    os.kill(first.pid, signal.SIGKILL)
    fleet.start(2)
    fleet.wait(lambda: us.parts() > 2, 60, "parts without a producer")
    again = us.submit()
    code, _, err = end_of(again, fleet)
    assert code == 0, err
    us.check()
    assert us.parts() == 200
    say("14", "killed while it published 200 chunks, run again: no gap, nothing doubled")


class Collector:
    """A collector's port: closed, accepting and silent, or slow to answer."""

    def __init__(self, kind: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._kind = kind
        self._open = threading.Event()
        if kind == "down":
            self._listener.close()
        else:
            threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._open.set()
        self._listener.close()

    def _serve(self) -> None:
        kept = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            kept.append(connection)
            if self._kind == "slow":
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.recv(1 << 20)
            self._open.wait(2)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()
        except OSError:
            return


@pytest.mark.timeout(300)
@pytest.mark.long_only
@pytest.mark.parametrize("kind", ["down", "slow", "hanging"])
def test_17_a_collector_that_fails_costs_no_throughput(
    kind: str,
    make_fleet: MakeFleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Say,
) -> None:
    chunks = 200
    took = {}
    collector = Collector(kind)
    for name in ("without", kind):
        if name == kind:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        job = make_job(tmp_path / name, lines(50 * chunks), chunk_rows=50, params={"ms_per_row": 2})
        fleet = make_fleet()
        fleet.start(1)
        fleet.until_ready()
        fleet.follow(job)
        fleet.until_parts(job, 1)
        began = time.monotonic()
        fleet.until_ended(job, 200)
        took[name] = time.monotonic() - began
        job.check()
        fleet.close()
    collector.close()
    share = took[kind] / took["without"] - 1
    assert share < 0.25  # the promise is 5 %; a shared machine is noisier than that
    say("17", f"a collector that is {kind}: {share:+.1%} time for {chunks} chunks")
