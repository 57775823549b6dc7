"""What a host's workers count, in files they share: over restarts, kills and orphans."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.settings import Settings
from headrace.telemetry.prometheus import (
    exposition,
    exposition_of_files,
    forget_gauges,
    metrics_in_memory,
)
from headrace.telemetry.provider import Telemetry, start_telemetry
from schemas.names import telemetry as names

# A worker: counts what comes on its standard input, and lives until it is killed.
WORKER = """
import sys
from pathlib import Path
from schemas.names import telemetry as names
from headrace.telemetry.prometheus import metrics_in_files
it = metrics_in_files(Path(sys.argv[1]), sys.argv[2])
for line in sys.stdin:
    rows = float(line)
    it.record(names.ROWS, rows, {"status": "ok"})
    it.record(names.CHUNK_DURATION, rows, {"outcome": "ok"})
    it.record(names.MEMORY_USAGE, rows, {"worker": sys.argv[2], "device": "cpu"})
    print("counted", flush=True)
"""


class Worker:
    def __init__(self, folder: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), name],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def count(self, rows: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{rows}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "counted\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.kill()


def start(workers: list[Worker], folder: Path, name: str) -> Worker:
    workers.append(Worker(folder, name))
    return workers[-1]


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def ok_rows(folder: Path) -> float:
    return values(exposition_of_files(folder))["headrace_rows_total", (("status", "ok"),)]


def test_a_restart_after_a_kill_makes_no_counter_go_backwards(
    tmp_path: Path, workers: list[Worker]
) -> None:
    first, other = start(workers, tmp_path, "host-0"), start(workers, tmp_path, "host-1")
    first.count(100)
    other.count(5)
    assert ok_rows(tmp_path) == 105
    first.kill()
    assert ok_rows(tmp_path) == 105, "what the dead have counted stays"
    again = start(workers, tmp_path, "host-0")
    again.count(10)
    assert ok_rows(tmp_path) == 115
    found = values(exposition_of_files(tmp_path))
    assert found["headrace_chunk_duration_seconds_count", (("outcome", "ok"),)] == 3
    assert found["headrace_chunk_duration_seconds_sum", (("outcome", "ok"),)] == 115


def test_many_restarts_leave_no_files_behind(tmp_path: Path, workers: list[Worker]) -> None:
    for _ in range(3):
        worker = start(workers, tmp_path, "host-0")
        worker.count(1)
        worker.kill()
    assert len(list(tmp_path.glob("*.db"))) == 3, "a file for each kind of metric"
    assert ok_rows(tmp_path) == 3


def test_two_processes_of_one_name_do_not_write_over_one_another(
    tmp_path: Path, workers: list[Worker]
) -> None:
    orphan, successor = start(workers, tmp_path, "host-0"), None
    orphan.count(100)
    successor = start(workers, tmp_path, "host-0")
    successor.count(10)
    orphan.count(1)
    successor.count(1)
    assert ok_rows(tmp_path) == 112


def test_a_workers_gauges_go_with_it_and_its_counters_stay(
    tmp_path: Path, workers: list[Worker]
) -> None:
    worker = start(workers, tmp_path, "host_0")  # what a file's name cannot hold is put right
    worker.count(7)
    gauge = ("headrace_device_memory_usage_bytes", (("device", "cpu"), ("worker", "host_0")))
    assert values(exposition_of_files(tmp_path))[gauge] == 7
    worker.kill()
    forget_gauges(tmp_path, "host_0")
    assert gauge not in values(exposition_of_files(tmp_path))
    assert ok_rows(tmp_path) == 7


def test_a_host_without_workers_so_far_has_an_empty_page(tmp_path: Path) -> None:
    assert exposition_of_files(tmp_path) == ""
    (tmp_path / "counter_host-0.db").touch()  # made, and not yet grown
    assert exposition_of_files(tmp_path) == ""


def test_every_metric_has_the_name_that_the_conventions_give_it() -> None:
    metrics = metrics_in_memory()
    for name, metric in names.METRICS.items():
        metrics.record(name, 1.0, dict.fromkeys(metric.labels, "x"))
    found = {s for s, _ in values(exposition(metrics))}
    assert found == {s for name in names.METRICS for s in names.prometheus_series(name)}


def test_only_jobs_on_the_list_are_labels() -> None:
    telemetry = Telemetry(
        prometheus=metrics_in_memory(label_jobs=True), label_jobs=frozenset({"a" * 16})
    )
    for job in ("a" * 16, "b" * 16, "c" * 16):
        telemetry.record(names.ROWS, 10, status="ok", **{names.JOB_ID: job})
    assert telemetry.prometheus is not None
    found = values(exposition(telemetry.prometheus))
    assert found["headrace_rows_total", (("headrace_job", "a" * 16), ("status", "ok"))] == 10
    assert found["headrace_rows_total", (("headrace_job", ""), ("status", "ok"))] == 20


def test_error_classes_past_a_bound_are_counted_together() -> None:
    telemetry = Telemetry(prometheus=metrics_in_memory())
    for number in range(1_000):
        telemetry.record(names.ERRORS, 1, **{names.ERROR_TYPE: f"made_up_{number}"})
    assert telemetry.prometheus is not None
    found = values(exposition(telemetry.prometheus))
    assert len(found) == 65
    assert found["headrace_errors_total", (("error_type", "other"),)] == 1_000 - 64


def test_gauges_that_are_watched_go_out_over_otlp(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: object
) -> None:
    endpoint = otlp_receiver.endpoint  # type: ignore[attr-defined]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{endpoint}/v1/metrics")
    telemetry = start_telemetry(names.SERVICE_CONTROLLER, Settings())
    telemetry.watch(
        lambda: [
            ("headrace.jobs", ("default", "running"), 2.0),
            ("headrace.worker.tokens", ("default",), 9.5),
        ],
        ["headrace.jobs", "headrace.worker.tokens", "headrace.deadline"],
    )
    telemetry.shutdown()
    sent = {m.name: m for m in otlp_receiver.metrics}  # type: ignore[attr-defined]
    assert sent["headrace.worker.tokens"].unit == "{token}/s"
    (point,) = sent["headrace.jobs"].gauge.data_points
    assert point.as_double == 2.0
    assert {a.key: a.value.string_value for a in point.attributes} == {
        "queue": "default",
        "state": "running",
    }
    assert "headrace.deadline" not in sent
