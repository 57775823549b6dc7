"""Which controller follows a job, in its output: for controllers that share no Redis.

The lock of a job is in Redis, so that of `headrace run`'s own Redis says nothing to a standing
controller with another. The record here does. It holds a number that grows while its writer lives;
whether that one is gone is seen by a reader's own clock, since the clocks of two hosts may differ.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient
from headrace.storage.store import Store
from schemas.errors import HeadraceError
from schemas.names import output_layout, redis_keys

log = get_logger(__name__)

RENEW_S = 15.0  # chosen: four small writes per minute for each job
GONE_S = 60.0  # chosen: four renewals that did not come
_PID_NAMESPACE = Path("/proc/self/ns/pid")


class Follower(BaseModel):
    """The record of the process that follows a job; written again and again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    controller: str
    host: str
    pid: int
    pid_namespace: str = ""
    """Processes of two containers have equal numbers."""
    redis: str = ""
    """Which Redis holds the job's lock; empty: none yet."""
    renewed: int = 0

    @property
    def place(self) -> tuple[str, str]:
        return self.host, self.pid_namespace


def this_process(controller: str, redis: str = "", renewed: int = 0) -> Follower:
    """The record of this process."""
    return Follower(
        controller=controller,
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_namespace=_pid_namespace(),
        redis=redis,
        renewed=renewed,
    )


def write_follower(store: Store, follower: Follower) -> None:
    """Record that this process follows the job. Raises StorageError."""
    store.replace(output_layout.FOLLOWER, follower.model_dump_json().encode())


def read_follower(store: Store) -> Follower | None:
    """The follower of the job; None: none is recorded or it is unreadable. Raises StorageError."""
    data = store.read(output_layout.FOLLOWER)
    try:
        return None if data is None else Follower.model_validate_json(data)
    except ValidationError:
        return None


def claim(store: Store) -> None:
    """Say that this process will follow the job, before others can find it in the registry.

    Nothing is written where another one follows it, or where it has ended. Raises StorageError.
    """
    other, me = read_follower(store), this_process("starting")
    is_free = other is None or (other.place == me.place and not is_running(other.pid))
    if is_free and store.head(output_layout.MANIFEST) is None:
        write_follower(store, me)


def is_running(pid: int) -> bool:
    """Whether this host has such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def redis_identity(client: RedisClient) -> str:
    """The same for all clients of one Redis, until it loses its memory. Raises redis-py's errors."""
    client.set(redis_keys.INSTANCE, os.urandom(8).hex(), nx=True)
    client.expire(redis_keys.INSTANCE, redis_keys.JOB_LIFE_S)
    found = client.get(redis_keys.INSTANCE)
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


@dataclass(slots=True)
class Followers:
    """The jobs of one controller, and those that it leaves to others. Not thread-safe."""

    controller: str
    client: RedisClient
    now_monotonic: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[Follower, float]] = field(default_factory=dict)
    """By job key: another's record as it last changed, and when that was seen."""
    _written: dict[str, float] = field(default_factory=dict)
    """By job key: when our own record was last written."""
    _renewed: int = 0

    def may_follow(self, key: str, store: Store) -> bool:
        """Whether no other process follows the job. Raises StorageError and redis-py's own errors.

        For a follower with the same Redis the lock decides. One with another Redis counts while its
        process runs on this host, or while its record changes.
        """
        other = read_follower(store)
        me = this_process(self.controller)
        if other is None or (other.place, other.pid) == (me.place, me.pid):
            return self._forget(key)
        if other.redis and other.redis == redis_identity(self.client):
            return self._forget(key)
        if other.place == me.place and not is_running(other.pid):
            return self._forget(key)
        if key not in self._seen:
            log.warning("job.followed", controller=other.controller, host=other.host, pid=other.pid)
        before, since = self._seen.get(key, (None, 0.0))
        if before != other:
            self._seen[key] = other, self.now_monotonic()
            return False
        return self.now_monotonic() - since > GONE_S and self._forget(key)

    def renew(self, key: str, store: Store) -> None:
        """Say that this controller follows the job, when it is time; a store that fails is not."""
        now = self.now_monotonic()
        if now - self._written.get(key, float("-inf")) < RENEW_S:
            return
        self._renewed += 1
        try:
            identity = redis_identity(self.client)
            write_follower(store, this_process(self.controller, identity, self._renewed))
            self._written[key] = now
        except (HeadraceError, redis.RedisError) as error:
            log.info("store.retried", error_type=type(error).__name__)

    def leave(self, key: str, store: Store) -> None:
        """Delete the record, where it is ours: the job has ended, or another may follow it."""
        if self._written.pop(key, None) is None:
            return
        try:
            found = read_follower(store)
            if found is not None and found.controller == self.controller:
                store.delete(output_layout.FOLLOWER)
        except HeadraceError as error:
            log.info("store.retried", error_type=type(error).__name__)

    def _forget(self, key: str) -> bool:
        self._seen.pop(key, None)
        return True


def _pid_namespace() -> str:
    try:
        return os.readlink(_PID_NAMESPACE)
    except OSError:  # no Linux
        return ""
