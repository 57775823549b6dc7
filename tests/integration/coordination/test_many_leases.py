"""Two hundred workers' worth of leases and signs against one Redis: no heartbeat comes too late."""

from __future__ import annotations

import threading
import time

import redis

from headrace.coordination.leases import LeaseBook, Mark
from headrace.coordination.live_workers import read_workers
from headrace.queue.redis_connection import connect
from schemas.names import redis_keys

WORKERS = 200
THREADS = 8  # clients of this test's machine; the connections are 200
BEATS = 6
LEASE_S = 3.0


class Client:
    """What one worker sends: a lease, then each second its renewal and a sign of life."""

    def __init__(self, url: str, number: int) -> None:
        self.number = number
        self.redis = connect(url, name=f"w{number}")
        self.book = LeaseBook(self.redis, "job", LEASE_S)
        self.mark = Mark(f"attempt-{number}", f"w{number}", since_s=time.time(), limit_s=600)

    def take(self) -> None:
        taken, old = self.book.take(self.number, self.mark)
        assert taken
        assert old is None

    def beat(self) -> float:
        """Seconds that Redis took."""
        began = time.perf_counter()
        assert self.book.hold(self.number, self.mark)
        pipe = self.redis.pipeline(transaction=False)
        now, name = time.time(), f"w{self.number}"
        pipe.hset(redis_keys.worker(name), mapping={"queue": "q", "hand": "", "seen_s": now})
        pipe.zadd(redis_keys.WORKERS, {name: now})
        pipe.execute()
        return time.perf_counter() - began


def test_no_heartbeat_of_two_hundred_workers_is_missed(
    redis_url: str, redis_client: redis.Redis
) -> None:
    clients = [Client(redis_url, n) for n in range(WORKERS)]
    for client in clients:
        client.take()
    took: list[float] = []
    errors: list[BaseException] = []
    began = time.monotonic()

    def work(own: list[Client]) -> None:
        try:
            for beat in range(BEATS):
                took.extend(client.beat() for client in own)
                time.sleep(max(0.0, began + beat + 1 - time.monotonic()))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(clients[n::THREADS],)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    book = LeaseBook(redis_client, "job", LEASE_S)
    while any(thread.is_alive() for thread in threads):
        leased, dead = book.look()
        assert (len(leased), dead) == (WORKERS, {})
        threads[0].join(0.2)
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(took) == WORKERS * BEATS
    assert max(took) < LEASE_S / 3, "a heartbeat took longer than its turn"
    assert len(list(read_workers(redis_client, time.time()))) == WORKERS
    for client in clients:
        client.redis.close()
