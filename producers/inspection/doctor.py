"""`headrace doctor`: what is installed, from where, and whether broker and store answer."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from headrace.process.cpu import cpu_name, number_formats
from headrace.redis_client import RedisClient
from headrace.settings import (
    Settings,
    cache_folder,
    state_folder,
)
from headrace.tasks.generation.vllm import vllm_version
from producers.capacity.device_hint import parse_gpus, query_gpus
from producers.inspection.packages import common_place, find_packages
from schemas.errors import HeadraceError

State = Literal["ok", "warning", "bad", "absent"]

OURS = ("schemas", "headrace", "producers", "workers")
SECRET = frozenset({"on_finish"})


@dataclass(frozen=True, slots=True)
class Row:
    """One check."""

    section: str
    name: str
    value: str
    state: State = "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """All checks; not ok if something that is configured does not work."""

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        return all(row.state != "bad" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "rows": [asdict(row) for row in self.rows]}


def examine(
    settings: Settings,
    output: str | None = None,
    *,
    query: Callable[[], str | None] = query_gpus,
    import_torch: bool = False,
    flags: frozenset[str] | None = None,
) -> Report:
    """Run all checks; never raises. `import_torch` also asks torch, which takes seconds.

    `flags` are the CPU's, absent: this machine's.
    """
    rows = [
        *_machine(),
        *_packages(),
        *_ours(),
        *_vllm(settings),
        *_devices(query, import_torch),
        *_number_formats(flags),
        *_settings(settings),
        *_broker(settings),
        *_store(settings, output),
    ]
    return Report(tuple(rows))


def _machine() -> Iterator[Row]:
    yield Row("machine", "python", f"{platform.python_version()} ({sys.executable})")
    yield Row("machine", "platform", platform.platform())
    yield Row("machine", "cores", str(cores()))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Row("machine", "memory", f"{pages / 1e9:.1f} GB")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _packages() -> Iterator[Row]:
    """Versions, and where packages were loaded from: the common place once, other places per package."""
    yield Row("packages", "loaded from", str(common_place()))
    for it in find_packages():
        extras = " or ".join(it.extras)
        if it.version is None and extras:
            yield Row("packages", it.name, f"not installed (extra: {extras})", "absent")
        elif it.version is None:
            yield Row("packages", it.name, "not installed: pip install headrace", "bad")
        else:
            elsewhere = f" from {it.elsewhere}" if it.elsewhere else ""
            problem = f": {it.problem}" if it.problem else ""
            state: State = "warning" if it.problem else "ok"
            yield Row("packages", it.name, f"{it.version}{elsewhere}{problem}", state)


def _ours() -> Iterator[Row]:
    """Where our four packages come from: a folder of the same name may stand before them."""
    places = {name: _place(name) for name in OURS}
    roots = {place.parent for place in places.values() if place is not None}
    for name, place in places.items():
        if place is None:
            yield Row("headrace", name, "cannot be imported", "bad")
        elif len(roots) > 1:
            yield Row("headrace", name, f"{place}: not beside the others", "bad")
        else:
            yield Row("headrace", name, str(place))


def _place(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _devices(query: Callable[[], str | None], import_torch: bool) -> Iterator[Row]:
    gpus = parse_gpus(query())
    for number, (name, capability) in enumerate(gpus):
        kind = "bfloat16" if capability >= 8 else "no bfloat16"
        yield Row("devices", f"cuda:{number}", f"{name}, compute capability {capability}, {kind}")
    if not gpus:
        yield Row("devices", "cpu", f"{cores()} cores; no NVIDIA GPU seen")
    if import_torch:
        yield _torch(len(gpus))


def _number_formats(flags: frozenset[str] | None) -> Iterator[Row]:
    """What `--dtype` may be for workers on this CPU."""
    yield Row("cpu", "model", cpu_name())
    for name, why_not in number_formats(flags).items():
        if why_not:
            yield Row("cpu", name, f"not served: {why_not}", "absent")
        else:
            yield Row("cpu", name, "served")


def _torch(gpus: int) -> Row:
    try:
        import torch

        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except Exception as error:  # not installed, or libraries that do not fit: any class
        return Row("devices", "torch", f"{type(error).__name__}: {error}", "bad")
    state: State = "warning" if seen < gpus else "ok"
    return Row("devices", "torch", f"{torch.__version__} sees {seen} of {gpus} GPUs", state)


def _vllm(settings: Settings) -> Iterator[Row]:
    """What `--engine vllm` would run."""
    python = settings.vllm_python
    if python is None:
        yield Row("engines", "vllm", "not set up: --vllm-python or HEADRACE_VLLM_PYTHON", "absent")
        return
    try:
        yield Row("engines", "vllm", f"{vllm_version(python)} of {python}")
    except HeadraceError as error:
        yield Row("engines", "vllm", str(error), "bad")


def _settings(settings: Settings) -> Iterator[Row]:
    from headrace.queue.redis_connection import mask_url
    from headrace.storage.uri import mask_uri

    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        if name in ("broker_url", "queue_url") and value is not None:
            shown = mask_url(value.get_secret_value())
        elif name in SECRET and value is not None:
            shown = "***"
        else:
            shown = mask_uri(str(value))
        yield Row("settings", name.replace("_", "-"), shown)
    if settings.registry is None:
        yield Row("settings", "registry", f"{state_folder() / 'registry'} (default)")
    if settings.model_cache is None:
        yield Row("settings", "model-cache", f"under {cache_folder()} (default)")


def _broker(settings: Settings) -> Iterator[Row]:
    from headrace.queue.redis_connection import (
        connect,
        mask_url,
        ping_or_raise,
        server_warnings,
    )

    if settings.broker_url is None:
        yield Row("broker", "redis", "none set: `headrace run` starts its own", "absent")
        return
    url = settings.broker_url.get_secret_value()
    try:
        client = connect(url, name="headrace-doctor")
        started = time.perf_counter()
        ping_or_raise(client, url)
        took_ms = (time.perf_counter() - started) * 1e3
    except HeadraceError as error:
        yield Row("broker", mask_url(url), str(error), "bad")
        return
    try:
        yield Row("broker", mask_url(url), f"answers in {took_ms:.1f} ms")
        for warning in server_warnings(client):
            yield Row("broker", "redis", warning, "warning")
        if settings.queue_url is not None:
            yield _message_broker(
                client, url, settings.queue_url.get_secret_value(), settings.queue
            )
    finally:
        client.close()


def _message_broker(client: RedisClient, redis_url: str, queue_url: str, queue: str) -> Row:
    from headrace.queue.celery_config import make_sender
    from headrace.queue.open import check_queue, open_queue
    from headrace.queue.redis_connection import mask_url

    try:
        check_queue(queue_url)
    except HeadraceError as error:
        return Row("broker", mask_url(queue_url), str(error), "bad")
    sender = make_sender(redis_url, queue_url)
    found = open_queue(client, sender).depth(queue)
    sender.close()
    if found is None:
        return Row("broker", mask_url(queue_url), "does not answer", "bad")
    return Row("broker", mask_url(queue_url), f"answers; {found} messages wait in {queue}")


def _store(settings: Settings, output: str | None) -> Iterator[Row]:
    if output is None:
        return
    from headrace.storage.open import open_store
    from headrace.storage.probe import probe_store
    from headrace.storage.uri import mask_uri

    try:
        store = open_store(output, settings)
        probe_store(store)
    except HeadraceError as error:
        yield Row("store", mask_uri(output), str(error), "bad")
        return
    yield Row("store", store.uri, "takes writes, and creates a name only once")
