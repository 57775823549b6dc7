"""Counters of a synchronous worker, as Prometheus reads them; thread-safe."""

from __future__ import annotations

import threading
from collections import Counter

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class OnlineMetrics:
    """Requests by status, texts, tokens and durations since the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()
        self._within: Counter[float] = Counter()
        self._seconds = 0.0
        self._texts = self._tokens = 0

    def request(self, status: int, seconds: float) -> None:
        with self._lock:
            self._requests[status] += 1
            self._seconds += seconds
            for bound in BOUNDS_S:
                self._within[bound] += seconds <= bound

    def computed(self, texts: int, tokens: int) -> None:
        with self._lock:
            self._texts += texts
            self._tokens += tokens

    def text(self, waiting_tokens: int, batches: int, version: int | None = None) -> str:
        """The page of `/metrics`; `batches` are those of the model that is served now."""
        with self._lock:
            count = sum(self._requests.values())
            lines = ["# TYPE headrace_online_requests_total counter"]
            lines += [
                f'headrace_online_requests_total{{status="{status}"}} {n}'
                for status, n in sorted(self._requests.items())
            ]
            lines.append("# TYPE headrace_online_request_seconds histogram")
            lines += [
                f'headrace_online_request_seconds_bucket{{le="{bound}"}} {self._within[bound]}'
                for bound in BOUNDS_S
            ]
            lines += [
                f'headrace_online_request_seconds_bucket{{le="+Inf"}} {count}',
                f"headrace_online_request_seconds_sum {self._seconds:.6f}",
                f"headrace_online_request_seconds_count {count}",
                *_one("texts_total", "counter", self._texts),
                *_one("tokens_total", "counter", self._tokens),
                *_one("batches_total", "counter", batches),
                *_one("waiting_tokens", "gauge", waiting_tokens),
            ]
        if version is not None:
            lines += _one("model_version", "gauge", version)
        return "\n".join(lines) + "\n"


def _one(name: str, kind: str, value: float) -> list[str]:
    return [f"# TYPE headrace_online_{name} {kind}", f"headrace_online_{name} {value}"]
