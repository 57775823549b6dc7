"""Ten thousand connections that never finish a request, and what others see of the gateway meanwhile.

    python -m benchmarks.gateway.slow --connections 10000

On loopback: a third says nothing, a third sends half a head, a third sends a body by single bytes.
While they are held, /healthz and /v1/files are asked. Then it is counted how many the gateway closes,
and when. Connections are two open files each, one on either side: as many are made as this process may
have, and how many that were is said.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import socket
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import requests

from benchmarks.fleet.startup import high_water_mb
from benchmarks.gateway.million import gateway

SPARE_FILES = 500
BEGUN = (
    b"",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
    b"Content-Type: application/json\r\n\r\n{",
)
"""What each third sends at once."""


def main() -> None:
    args = _arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(args.connections, hard - SPARE_FILES)
    with (
        tempfile.TemporaryDirectory(prefix="headrace-gateway-") as name,
        gateway(Path(name)) as (process, url),
    ):
        before = asked(url, args.requests)
        held = opened(url, count)
        try:
            during = asked(url, args.requests)
            closed = closed_within(held, args.seconds)
        finally:
            for connection in held:
                connection.close()
        print(json.dumps({
            "connections": count, "before": before, "during": during, "closed": len(closed),
            "last_closed_after_s": round(max(closed, default=0.0), 1),
            "peak_mb": round(high_water_mb(process.pid)),
        }, indent=1))  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.slow", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="longest wait for their end")
    return parser.parse_args()


def opened(url: str, count: int) -> list[socket.socket]:
    """That many connections, each with the beginning of a request at most."""
    place = urlsplit(url)
    found = []
    for number in range(count):
        connection = socket.create_connection((place.hostname, place.port or 80), 60)
        connection.sendall(BEGUN[number % len(BEGUN)])
        found.append(connection)
    return found


def asked(url: str, count: int) -> dict[str, float]:
    """Milliseconds of requests on connections of their own."""
    found = []
    for number in range(count):
        started = time.perf_counter()
        answer = requests.get(f"{url}/{('healthz', 'v1/files')[number % 2]}", timeout=30)
        assert answer.status_code == 200, answer.text
        found.append((time.perf_counter() - started) * 1e3)
    return {"p50_ms": round(median(found), 1), "max_ms": round(max(found), 1)}


def closed_within(held: list[socket.socket], limit_s: float) -> list[float]:
    """Seconds until each was closed by the other side; one with a body sends a byte each second."""
    started = time.monotonic()
    closed: list[float] = []
    with selectors.DefaultSelector() as waiting:
        for number, connection in enumerate(held):
            connection.setblocking(False)
            waiting.register(connection, selectors.EVENT_READ, number % len(BEGUN) == 2)
        while waiting.get_map() and time.monotonic() - started < limit_s:
            for key, _ in waiting.select(1.0):
                connection = key.fileobj  # type: ignore[assignment]
                try:
                    is_open = bool(connection.recv(4096))
                except OSError:
                    is_open = False
                if not is_open:
                    waiting.unregister(connection)
                    closed.append(time.monotonic() - started)
            _send_a_byte(waiting)
    return closed


def _send_a_byte(waiting: selectors.BaseSelector) -> None:
    for key in list(waiting.get_map().values()):
        if key.data:
            try:
                key.fileobj.send(b"x")  # type: ignore[union-attr]
            except OSError:
                continue


if __name__ == "__main__":
    main()
