"""Advances open batches in the background of a gateway, also those that another gateway left open."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from headrace.process.logs import get_logger
from producers.gateway.batches.advance import try_advance
from producers.gateway.batches.places import batch_place, open_mark
from producers.gateway.records import BatchRecord
from producers.gateway.state import Gateway
from schemas.errors import HeadraceError, error_type_of

log = get_logger(__name__)

LOOK_S = 1.0
"""Chosen: a small batch ends some seconds after it was made."""
UNMADE_S = 60.0
"""Age at which a mark without a batch is removed. Chosen: a gateway creates both within milliseconds."""
AT_ONCE = 2
"""Steps that run at once. Chosen: a long check must not hold up the short ones."""


class Keeper:
    """A thread that finds open batches, and a few threads that run their steps."""

    def __init__(self, gateway: Gateway, look_s: float = LOOK_S) -> None:
        self._gateway = gateway
        self._look_s = look_s
        self._stop = threading.Event()
        self._news = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="headrace-batch")
        self._busy: dict[str, Future[bool]] = {}
        self._thread = threading.Thread(target=self._run, name="headrace-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now: a batch is new or is to be cancelled."""
        self._news.set()

    def close(self) -> None:
        """Finish the running steps and start no more."""
        self._stop.set()
        self._news.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def look(self) -> None:
        """Start a step of each open batch for which none is running."""
        self._busy = {id: step for id, step in self._busy.items() if not step.done()}
        store = self._gateway.root.store
        for info in store.list("open/"):
            id = info.name.removeprefix("open/")
            if id not in self._busy:
                self._busy[id] = self._pool.submit(self._step, id)

    def _step(self, id: str) -> bool:
        try:
            batch = self._gateway.root.read(BatchRecord, batch_place(id, "batch.json"))
            if batch is None:
                return self._forget_unmade(id)
            return try_advance(self._gateway, batch)
        except Exception as error:  # the next look tries again; the thread must not die
            log.warning("gateway.batch_retried", batch_id=id, error_type=error_type_of(error))
            return False

    def _forget_unmade(self, id: str) -> bool:
        """Clean up after a gateway that died before it created the batch."""
        root = self._gateway.root
        info, owner = root.store.head(open_mark(id)), root.store.read(open_mark(id))
        if info is None or owner is None or time.time() - info.modified_s < UNMADE_S:
            return False
        self._gateway.quota.release(owner.decode(), id)
        root.disown(owner.decode(), "batches", id)
        root.store.delete(open_mark(id))
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except HeadraceError as error:
                log.warning("store.unreachable", error_type=error_type_of(error))
            self._news.wait(self._look_s)
            self._news.clear()


@contextlib.contextmanager
def keeping(gateway: Gateway) -> Iterator[Keeper]:
    """A context with a running keeper."""
    keeper = Keeper(gateway)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.close()
