"""The controller's answers over HTTP, from a real Redis: the endpoint's answer is the function's."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from headrace.coordination.excluded_hosts import exclude
from headrace.coordination.live_workers import read_workers
from headrace.output.plan_file import PlanTable
from headrace.queue.celery_config import make_sender
from headrace.queue.redis_connection import celery_url
from headrace.settings import Settings, load_settings
from producers.commands.session import open_session
from producers.commands.status import list_workers
from producers.control.controller import Controller
from producers.control.demand import DemandReporter
from producers.records.snapshot import take_snapshot
from producers.scaling.decision import WorkerCounts, decide_workers
from producers.scaling.endpoint import Liveness, serve_scaling
from producers.scaling.facts import read_facts
from producers.scaling.metrics import METRICS
from producers.scaling.scaler import limits_of
from producers.tracking.flags import JobFlags
from producers.tracking.tracked_job import TrackedJob
from schemas.names import redis_keys
from schemas.records.model_key import speed_key
from tests.conftest import free_port, wait_until
from tests.fake_jobs import FakeJob, make_job
from workers.fleet.worker_status import WorkerStatusPoller

BROKEN = "redis://127.0.0.1:1/0"


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings(listen="127.0.0.1:0", max_workers=20, window_s=60, startup_s=5)


@pytest.fixture
def pulse() -> Liveness:
    return Liveness()


@pytest.fixture
def port(settings: Settings, redis_client: redis.Redis, pulse: Liveness) -> Iterator[int]:
    with serve_scaling(settings, redis_client, pulse) as port:
        assert port is not None
        yield port


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return make_job(tmp_path, [f"text {i}" for i in range(1_000)], chunk_rows=10, priority=1)


@pytest.fixture
def followed(job: FakeJob, redis_client: redis.Redis) -> TrackedJob:
    plan = PlanTable.load(job.store)
    following = TrackedJob(job.job, job.store, plan, redis_client, "test")
    following.load()
    return following


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            status, data = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, data = error.code, error.read()
    is_text = path.startswith("/metrics")
    return status, data.decode() if is_text else json.loads(data)


def worker(client: redis.Redis, name: str, job: str = "", queue: str = "default") -> None:
    """A worker as it signs itself; busy where a job is given."""
    now = time.time()
    hand = json.dumps({"job": job, "chunks": {"3": "a"}}) if job else ""
    told = {"queue": queue, "device": "cpu", "pid": 7, "seen_s": now, "hand": hand}
    client.hset(redis_keys.worker(name), mapping=told)
    client.zadd(redis_keys.WORKERS, {name: now})


def test_without_jobs_no_worker_is_wanted(port: int) -> None:
    status, body = get(port, "/scale?queue=default")
    assert (status, body["workers"], body["reason"]) == (200, 0, "no work")
    assert body["backlog_tokens"] == 0
    assert body["deadline_at_risk"] is False


def test_the_answer_is_the_functions(
    port: int, settings: Settings, followed: TrackedJob, redis_client: redis.Redis
) -> None:
    worker(redis_client, "w1", followed.job.key)
    worker(redis_client, "w2")
    worker(redis_client, "elsewhere", queue="gpu")
    DemandReporter(redis_client).report([followed])
    _, body = get(port, "/scale?queue=default")
    facts = read_facts(redis_client, time.time())
    expected = decide_workers(
        facts.demands("default"), WorkerCounts(1, 1), limits_of(settings), time.time()
    )
    assert (body["workers"], body["reason"]) == (expected.workers, expected.reason)
    assert (body["busy"], body["idle"]) == (1, 1)
    assert body["backlog_chunks"] == 100
    assert body["backlog_tokens"] > 0
    assert body["workers"] == 4 + 0  # nothing is measured yet


def test_a_deadline_in_danger_is_said_once_and_shown_by_status(
    port: int, redis_client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    due = make_job(tmp_path, ["x"] * 500, chunk_rows=1, deadline_s=time.time() + 60)
    redis_client.hset(redis_keys.SPEEDS, speed_key(due.job), 0.5)  # of the night before
    followed = TrackedJob(due.job, due.store, PlanTable.load(due.store), redis_client, "test")
    followed.load()
    DemandReporter(redis_client).report([followed])
    assert not take_snapshot(due.store, due.job, redis_client).deadline_at_risk
    with caplog.at_level(logging.WARNING):
        assert [get(port, "/scale")[1]["deadline_at_risk"] for _ in range(3)] == [True] * 3
    assert caplog.messages.count("scaling.deadline_at_risk") == 1
    told = take_snapshot(due.store, due.job, redis_client)
    assert told.deadline_at_risk
    assert told.deadline_s == due.job.options.deadline_s
    old = json.loads(redis_client.get(redis_keys.scale("default")) or b"") | {
        "at_s": time.time() - 600
    }
    redis_client.set(redis_keys.scale("default"), json.dumps(old))
    assert not take_snapshot(due.store, due.job, redis_client).deadline_at_risk


def test_metrics_do_not_repeat_the_answer_of_another_night(
    port: int, followed: TrackedJob, redis_client: redis.Redis
) -> None:
    DemandReporter(redis_client).report([followed])
    danger = {"workers": 19, "reason": "x", "deadline_at_risk": True}
    for at_s, shown in ((time.time(), ("19.0", "1.0")), (time.time() - 600, ("19.0", "0.0"))):
        kept = {**danger, "raised_s": None, "surplus_since_s": None, "at_s": at_s}
        redis_client.set(redis_keys.scale("default"), json.dumps(kept))
        _, text = get(port, "/metrics")
        assert f'headrace_workers_wanted{{queue="default"}} {shown[0]}' in text
        assert f'headrace_deadline_at_risk{{queue="default"}} {shown[1]}' in text


def test_a_paused_job_wants_no_worker(
    port: int, followed: TrackedJob, redis_client: redis.Redis
) -> None:
    followed.flags = JobFlags(paused=True)
    DemandReporter(redis_client).report([followed])
    assert get(port, "/scale")[1]["workers"] == 0


def test_speed_is_measured_and_remembered_for_the_next_job(
    followed: TrackedJob, redis_client: redis.Redis
) -> None:
    key, reporter, now = followed.job.key, DemandReporter(redis_client), time.time()
    worker(redis_client, "w1", key)
    worker(redis_client, "w2", key)
    for second in range(12):
        redis_client.hset(
            redis_keys.job(key), mapping={"tokens": 2_000 * second, "done_rows": 10 * second}
        )
        reporter.report([followed], now + second)
    (facts,) = read_facts(redis_client, now).jobs
    assert facts.tokens_per_s == pytest.approx(1_000, rel=0.02)
    assert facts.progress_s == now + 11
    DemandReporter(redis_client).report([followed], now + 20)
    (facts,) = read_facts(redis_client, now).jobs
    assert facts.tokens_per_s == pytest.approx(1_000, rel=0.02)


def test_the_time_that_a_model_takes_to_load_is_no_work(
    followed: TrackedJob, redis_client: redis.Redis
) -> None:
    """Else the first figure is far too low: more workers than needed, and a deadline in danger."""
    key, reporter, now = followed.job.key, DemandReporter(redis_client), time.time()
    for name in ("w1", "w2"):
        worker(redis_client, name, key)
        redis_client.hset(redis_keys.worker(name), "model", "")
    for second in range(12):
        if second == 5:
            for name in ("w1", "w2"):
                redis_client.hset(redis_keys.worker(name), "model", "there")
        scored = max(0, second - 4)
        redis_client.hset(
            redis_keys.job(key), mapping={"tokens": 2_000 * scored, "done_rows": 10 * scored}
        )
        reporter.report([followed], now + second)
    (facts,) = read_facts(redis_client, now).jobs
    assert facts.tokens_per_s == pytest.approx(1_000, rel=0.02)


def test_a_job_without_a_controller_wants_no_worker(
    followed: TrackedJob, redis_client: redis.Redis
) -> None:
    now = time.time()
    DemandReporter(redis_client).report([followed], now)
    assert len(read_facts(redis_client, now + 200).jobs) == 1
    assert read_facts(redis_client, now + 400).jobs == ()


def test_a_controller_tells_what_its_jobs_want(
    port: int, job: FakeJob, redis_client: redis.Redis, redis_url: str
) -> None:
    sender = make_sender(celery_url(redis_url))
    controller = Controller(redis_client, sender)
    controller.add(job.job, job.store)
    controller.tick()
    assert get(port, "/scale")[1]["backlog_chunks"] == 100
    controller.close()
    sender.close()


def test_hosts_share_the_workers(
    port: int, followed: TrackedJob, redis_client: redis.Redis
) -> None:
    DemandReporter(redis_client).report([followed])
    get(port, "/scale?host=a&slots=3&running=0")
    _, b = get(port, "/scale?host=b&slots=3&running=0")
    _, a = get(port, "/scale?host=a&slots=3&running=0")
    assert a["workers"] == a["share"] + b["share"] == 4
    assert get(port, "/scale?host=a&slots=3&running=3")[1]["share"] == 3
    assert get(port, "/scale?host=b&slots=3&running=1")[1]["share"] == 1


@pytest.mark.parametrize(
    "path",
    ["/scale?queue=a/b", "/scale?max=-1", "/scale?max=x", "/scale?host=a%20b", "/scale?min=1e9"],
)
def test_a_question_without_meaning_is_a_400(port: int, path: str) -> None:
    status, body = get(port, path)
    assert status == 400
    assert body["error"]


def test_another_path_is_a_404_that_lists_the_paths(port: int) -> None:
    status, body = get(port, "/")
    assert status == 404
    assert "/scale" in body["error"]


def test_health_follows_the_loop(port: int, pulse: Liveness) -> None:
    assert get(port, "/healthz") == (200, {"alive": True})
    assert get(port, "/readyz") == (200, {"ready": True, "redis": True})
    pulse.beat_monotonic -= 1_000
    assert get(port, "/healthz")[0] == 503
    assert get(port, "/readyz")[0] == 503


def test_without_redis_it_says_so_and_never_zero(settings: Settings, pulse: Liveness) -> None:
    client = redis.Redis.from_url(BROKEN)
    with serve_scaling(settings, client, pulse) as port:
        assert port is not None
        assert get(port, "/scale")[0] == 503
        assert get(port, "/readyz") == (503, {"ready": False, "redis": False})
        assert get(port, "/healthz")[0] == 200
        assert "headrace_redis_up 0.0" in get(port, "/metrics")[1]
    client.close()


def test_metrics_are_those_of_the_list_and_name_no_job(
    port: int, followed: TrackedJob, redis_client: redis.Redis
) -> None:
    worker(redis_client, "w1", followed.job.key)
    DemandReporter(redis_client).report([followed])
    get(port, "/scale")
    _, text = get(port, "/metrics")
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert families <= METRICS.keys()
    assert {"headrace_backlog_tokens", "headrace_workers_wanted"} <= families
    assert 'headrace_workers{queue="default",state="busy"} 1.0' in text
    assert followed.job.id not in text


def test_status_lists_the_workers(
    redis_url: str, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    worker(redis_client, "w1", "0123456789abcdef-77777777")
    worker(redis_client, "w2", queue="gpu")
    assert list_workers(open_session({"broker_url": redis_url}, as_json=True)) == 0
    told = {w["name"]: w for w in json.loads(capsys.readouterr().out)}
    assert told["w1"]["chunks"] == [3]
    assert (told["w2"]["job"], told["w2"]["queue"]) == ("", "gpu")
    list_workers(open_session({"broker_url": redis_url}))
    assert "0123456789abcdef chunk 3" in capsys.readouterr().out


def test_status_says_which_hosts_get_no_work_and_why(
    redis_url: str, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    worker(redis_client, "sick-7-0")
    worker(redis_client, "well-8-0")
    exclude(redis_client, "sick-7", "input_changed", "[red]/data/a.parquet is not the file")
    assert list_workers(open_session({"broker_url": redis_url}, as_json=True)) == 0
    told = {w["name"]: w["excluded"] for w in json.loads(capsys.readouterr().out)}
    assert (told["sick-7-0"]["cause"], told["well-8-0"]) == ("input_changed", None)
    list_workers(open_session({"broker_url": redis_url}))
    line = "sick-7 gets no work for 1 min: input_changed: [red]/data/a.parquet is not the file"
    shown = capsys.readouterr().out
    assert line.split(" for ")[0] in shown
    assert line.split(": ", 1)[1] in shown


def test_a_worker_that_ended_is_counted_no_longer(redis_client: redis.Redis) -> None:
    for name in ("gone", "again", "stays"):
        worker(redis_client, name)
    watch = WorkerStatusPoller(redis_client, lambda: ["again", "stays"])
    watch.ended("gone")
    watch.ended("again")  # its slot has a new one already
    watch.look()
    assert [w.name for w in read_workers(redis_client, time.time())] == ["again", "stays"]
    assert not redis_client.exists(redis_keys.worker("gone"))
    watch.forget(["again", "stays"])
    assert list(read_workers(redis_client, time.time())) == []


def test_two_controllers_give_one_answer(
    port: int, settings: Settings, followed: TrackedJob, redis_client: redis.Redis
) -> None:
    DemandReporter(redis_client).report([followed])
    with serve_scaling(settings, redis_client, Liveness()) as other:
        assert other is not None
        answers = [get(p, "/scale")[1] for p in (port, other, port, other)]
    assert len({a["workers"] for a in answers}) == 1


def test_the_command_listens_and_ends_on_sigterm(redis_url: str, tmp_path: Path) -> None:
    door, own = Path(sys.executable).parent / "headrace", free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    process = subprocess.Popen(
        [str(door), "controller", "--broker", redis_url, "--listen", f"127.0.0.1:{own}"],
        env={**kept, "XDG_STATE_HOME": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: process.poll() is not None or _answers(own), 30, "the controller")
        assert get(own, "/readyz")[0] == 200
        assert "headrace_redis_up 1.0" in get(own, "/metrics")[1]
    finally:
        process.terminate()
        assert process.wait(30) == 0


def _answers(port: int) -> bool:
    try:
        return get(port, "/healthz")[0] == 200
    except OSError:
        return False
