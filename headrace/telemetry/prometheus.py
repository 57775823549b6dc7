"""Metrics for Prometheus: of one process in its memory, of a host's workers in files they share.

A worker's counters are in files of its slot, memory-mapped by prometheus-client's multi-process
mode. The next process in that slot continues with the same files. So after a restart, even after
`kill -9`, no counter goes backwards and no file is left over. The fleet reads all files at each
scrape. If two processes have the same name at once (an orphan that outlives its parent), each gets
its own files: a process locks its name until it ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import MissingExtra
from schemas.names import telemetry as names

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAMES_AT_ONCE = 64  # chosen: far more processes than ever share a slot's name
_held: list[int] = []
"""Locks of this process's names, kept open until it ends."""


class PrometheusMetrics:
    """Metrics of `names.METRICS` under their Prometheus names; thread-safe."""

    def __init__(self, registry: CollectorRegistry, label_jobs: bool = False) -> None:
        self.registry = registry
        self._label_jobs = label_jobs
        self._known: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._lock = threading.Lock()

    def record(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Add to a counter, set a gauge, or observe a value of a histogram."""
        metric, wanted = self._known.get(name) or self._make(name)
        kind = names.METRICS[name].kind
        series = metric.labels(*(labels.get(n, "") for n in wanted)) if wanted else metric
        if kind == "counter":
            series.inc(value)
        elif kind == "gauge":
            series.set(value)
        else:
            series.observe(value)

    def _make(self, name: str) -> tuple[Any, tuple[str, ...]]:
        import prometheus_client

        with self._lock:
            if name not in self._known:
                metric = names.METRICS[name]
                jobs = (names.JOB_ID,) if self._label_jobs and name in names.JOB_LABEL else ()
                labels = (*metric.labels, *jobs)
                more: dict[str, Any] = {}
                if metric.kind == "gauge":
                    # of the latest process of a slot, and only while it lives
                    more["multiprocess_mode"] = "livemostrecent"
                if metric.buckets:
                    more["buckets"] = metric.buckets
                make = getattr(prometheus_client, metric.kind.capitalize())
                shown = [label.replace(".", "_") for label in labels]
                made = make(
                    names.prometheus_name(name), metric.text, shown, registry=self.registry, **more
                )
                self._known[name] = (made, labels)
            return self._known[name]


def metrics_in_memory(label_jobs: bool = False) -> PrometheusMetrics:
    """Metrics of this process alone, to be read with `exposition`.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """
    client = _client()
    client.disable_created_metrics()
    return PrometheusMetrics(client.CollectorRegistry(), label_jobs)


def metrics_in_files(folder: Path, process: str, label_jobs: bool = False) -> PrometheusMetrics:
    """Metrics of a worker process, in files of its name that outlive it; once a process.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """
    client = _client()
    from prometheus_client import values

    values_of: Any = values.MultiProcessValue
    name = _hold_name(folder, re.sub(r"[^A-Za-z0-9.-]", "-", process))
    values.ValueClass = values_of(lambda: name)
    return PrometheusMetrics(client.CollectorRegistry(), label_jobs)


def _hold_name(folder: Path, name: str) -> str:
    """The name, or one with a number added if another process holds it."""
    for number in range(1, _NAMES_AT_ONCE):
        tried = name if number == 1 else f"{name}-{number}"
        lock = os.open(folder / f"{tried}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _held.append(lock)
        return tried
    return f"{name}-{os.getpid()}"


def exposition_of_files(folder: Path) -> str:
    """The text of `/metrics`: the sums over a host's workers, those that have ended included.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """
    client = _client()
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = client.CollectorRegistry()
    # a file is empty for a moment after it is made: it is read the next time
    files = [str(f) for f in sorted(folder.glob("*.db")) if f.stat().st_size]
    merge: Any = MultiProcessCollector.merge
    registry.register(_Merged(merge(files)))
    return str(client.generate_latest(registry).decode())


class _Merged:
    def __init__(self, found: Iterable[Any]) -> None:
        self._found = list(found)

    def collect(self) -> list[Any]:
        return self._found


def forget_gauges(folder: Path, process: str) -> None:
    """Remove the gauges of a worker that has ended; its counters stay."""
    name = re.sub(r"[^A-Za-z0-9.-]", "-", process)
    for path in folder.glob(f"gauge_*_{name}.db"):
        path.unlink(missing_ok=True)


def exposition(metrics: PrometheusMetrics) -> str:
    """The text of `/metrics` of one process."""
    return str(_client().generate_latest(metrics.registry).decode())


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError as error:
        raise MissingExtra(
            "/metrics needs a package more: pip install 'headrace[metrics]'"
        ) from error
    return prometheus_client
