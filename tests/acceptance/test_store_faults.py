"""Stores that fail: S3 at 20 %, a disk that fills up; and rows that no store should have held."""

from __future__ import annotations

import os
import random
import resource
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.settings import load_settings
from headrace.storage.open import open_store
from producers.records.snapshot import Snapshot, take_snapshot
from schemas.names import output_layout
from tests.acceptance.conftest import MakeFleet, Say, Scale
from tests.acceptance.harness.fleet import Fleet, attempts, lines, parts
from tests.fake_jobs import FakeJob, make_job

FAULTS = ("503", "500", "drop", "lost")


@pytest.mark.timeout(500)
def test_12_an_s3_that_fails_one_request_in_five_has_one_commit_a_chunk(
    make_fleet: MakeFleet,
    tmp_path: Path,
    fault_proxy: Any,
    s3_server: Any,
    s3_bucket: str,
    scale: Scale,
    seed: int,
    say: Say,
) -> None:
    rng, lock, done = random.Random(seed), threading.Lock(), []

    def decide(method: str, path: str) -> str:
        with lock:
            fault = rng.choice(FAULTS) if rng.random() < 0.2 else ""
            done.append(fault)
            return fault

    chunks = scale.of(12, 60)
    settings = {"s3_endpoint_url": fault_proxy.endpoint, "s3_path_style": True}
    job = make_job(
        tmp_path,
        lines(50 * chunks, seed),
        chunk_rows=50,
        output=f"s3://{s3_bucket}/out",
        settings=settings,
    )
    fleet = make_fleet(s3_endpoint_url=fault_proxy.endpoint, s3_path_style="true")
    fault_proxy.decide = decide
    fleet.start(2)
    fleet.follow(job)
    # we look past the proxy: at one in five, six tries in a row fail some time in 10,000 looks
    plain = load_settings(s3_endpoint_url=s3_server.endpoint, s3_path_style=True)
    manifest = fleet.until_ended(replace(job, store=open_store(job.store.uri, plain)), 300)
    fault_proxy.decide = lambda method, path: ""
    job.check()
    check_sums(job)
    commits = [fault_proxy.commits(f"/{s3_bucket}/out/{p.name}") for p in manifest.parts]
    assert commits == [1] * chunks
    hit = sum(1 for fault in done if fault)
    say(
        "12",
        f"seed {seed}: {hit} of {len(done)} S3 requests failed: {chunks} chunks, 1 commit each",
    )


def check_sums(job: FakeJob) -> None:
    """Each part has the sha256 that the manifest says."""
    import hashlib

    manifest = job.manifest()
    assert manifest is not None
    for part in manifest.parts:
        data = job.store.read(part.name)
        assert data is not None
        assert hashlib.sha256(data).hexdigest() == part.sha256


@pytest.mark.timeout(200)
def test_16_a_disk_that_fills_up_is_said_and_the_job_goes_on_when_there_is_room(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    job = make_job(tmp_path / "in", lines(8_000), chunk_rows=2_000, params={"ms_per_row": 0.1})
    fleet = make_fleet()
    fleet.start(1)
    child = fleet.wait(lambda: fleet.workers[0].children(), 60)[0]
    allow(child.pid, 20_000)  # no file may grow beyond that: a part would, the worker's log not
    fleet.follow(job)
    fleet.wait(lambda: fleet.logged("disk_full"), 60, "the worker to say that the disk is full")
    fleet.wait(  # it goes to Redis after the log
        lambda: "disk_full: no space left" in (snapshot_of(fleet, job).reason or ""), 20
    )
    assert parts(job) == []
    assert not list(Path(job.store.uri).glob("data/*"))
    allow(child.pid, resource.RLIM_INFINITY)
    manifest = fleet.until_ended(job)
    job.check()
    causes = {a.cause for records in attempts(job).values() for a in records}
    assert causes <= {"disk_full"}
    assert manifest.state == "finished"
    scratch = Path(job.store.uri) / output_layout.TMP
    fleet.wait(lambda: not os.listdir(scratch), 10, "the last trace to be written")
    say("16", "a full disk: `disk_full` said, no partial file, finished when there was room")


def snapshot_of(fleet: Fleet, job: FakeJob) -> Snapshot:
    return take_snapshot(job.store, job.job, fleet.client)


def allow(pid: int, size: int) -> None:
    """Let a process write files of at most that size; -1: any."""
    _, hard = psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE)
    psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (size, hard))


@pytest.mark.timeout(300)
def test_8_a_bad_row_in_ten_thousand_spoils_no_other(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    texts: list[Any] = list(lines(10_000))
    clean = make_job(tmp_path / "clean", texts, chunk_rows=2_500)
    bad = list(texts)
    null, invalid, lone, huge = chance.sample(range(10_000), 4)
    bad[null], bad[invalid], bad[lone] = None, b"\xff\xfe not text", b"\xed\xa0\x80 a surrogate"
    bad[huge] = "é" * (25 << 20)  # 50 MB
    dirty = make_job(tmp_path / "dirty", bad, chunk_rows=2_500)
    fleet = make_fleet()
    fleet.start(2)
    fleet.follow(clean, dirty)
    fleet.until_ended(clean)
    fleet.until_ended(dirty)
    errors = {null: "null_text", invalid: "invalid_text", lone: "invalid_text"}
    rows, expected = dirty.check(errors), clean.check()
    same = [r for r in range(10_000) if r not in (*errors, huge)]
    volatile = {"trace_id"}
    assert all(
        {k: v for k, v in rows[r].items() if k not in volatile}
        == {k: v for k, v in expected[r].items() if k not in volatile}
        for r in same
    )
    assert rows[huge]["status"] == "ok"
    say(
        "8",
        "null, invalid UTF-8, lone surrogate, 50 MB in 10,000 rows: those rows only, rest equal",
    )


@pytest.mark.long_only
@pytest.mark.timeout(120)
def test_19_an_input_that_changed_is_refused_before_any_computing(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    job = make_job(tmp_path, lines(1_000), chunk_rows=10, params={"ms_per_row": 5})
    fleet = make_fleet(lease_s="2")
    fleet.start(1)
    fleet.follow(job)
    fleet.until_parts(job, chance.randint(2, 40))
    for worker in fleet.workers:
        worker.end()
    stood = len(parts(job))
    pq.write_table(pa.table({"text": ["another corpus"] * 1_000}), job.input, row_group_size=10)
    began = time.monotonic()
    manifest = fleet.until_ended(job, 60)
    assert manifest.state == "failed"
    assert "is not the file that was planned" in manifest.reason
    assert len(parts(job)) == stood
    say(
        "19",
        f"input changed at {stood} parts: failed {time.monotonic() - began:.0f} s later, 0 rows computed",
    )


@pytest.mark.timeout(3_000)
def test_20_memory_and_descriptors_stay_flat(
    make_fleet: MakeFleet, tmp_path: Path, scale: Scale, say: Say
) -> None:
    chunks = scale.of(120, 10_000)
    job = make_job(tmp_path, lines(5 * chunks), chunk_rows=5)
    fleet = make_fleet()
    fleet.start(1)
    fleet.follow(job)
    seen = []
    for share in (0.25, 0.5, 0.75, 0.98):
        fleet.until_parts(job, int(chunks * share), 2_500)
        child = fleet.workers[0].children()[0]
        memory = int(fleet.client.info("memory")["used_memory"])
        seen.append((child.memory_info().rss, child.num_fds(), memory))
    fleet.until_ended(job, 600)
    job.check()
    (rss0, fds0, redis0), (rss1, fds1, redis1) = seen[0], seen[-1]
    assert fds1 <= fds0 + 2
    assert rss1 < rss0 + (24 << 20) + rss0 // 20
    assert redis1 < redis0 + (512 << 10)
    say(
        "20",
        f"{chunks} chunks, from a quarter to the end: worker {rss0 >> 20} → {rss1 >> 20} MB, "
        f"{fds0} → {fds1} descriptors, Redis {redis0 >> 10} → {redis1 >> 10} kB",
    )
