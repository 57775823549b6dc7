"""Leases: who works on a chunk right now, in Redis, for speed alone.

A lease is a string key with a life (`SET NX PX`, its value a random attempt id). Beside it stands
a *mark*, which outlives it: what the attempt was doing. A mark without a lease is a death that
somebody has yet to record; a release takes both away at once. Nothing here is needed for
correctness: two attempts that race end in one part, because the part is the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.names import redis_keys

# Take a free chunk. Returns {1, mark left by a dead attempt or ''} or {0, ''}. One that is ours
# already is taken: redis-py sends a command again when its reply was lost.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  local old = redis.call('HGET', KEYS[2], ARGV[3]) or ''
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
  redis.call('EXPIRE', KEYS[2], ARGV[5])
  return {1, old}
end
return {0, ''}
"""

# Renew a lease and write its mark. A lease that vanished is retaken; another's id means lost.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
"""

# Give a chunk back: lease and mark go together, so that no death is seen.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
local mark = redis.call('HGET', KEYS[2], ARGV[2])
if mark and cjson.decode(mark)['attempt'] == ARGV[1] then redis.call('HDEL', KEYS[2], ARGV[2]) end
return 1
"""

# Give the lease back and leave the mark: the attempt counts as one that crashed.
_ABANDON = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

_DROP_MARK = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
"""

HELD, READING, ENCODING, FORWARD, WRITING = "held", "read", "tokenize", "forward", "write"
HANGING = "disk"
"""A read of a mounted folder that has not returned within the time limit."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What an attempt on a chunk was doing when it last said so."""

    attempt: str
    worker: str
    stage: str = HELD
    """`held`: leased ahead, not begun; a death then is no attempt."""
    rows: tuple[int, ...] = ()
    """Rows of the chunk that are with the model."""
    encoding: tuple[int, int] | None = None
    """Rows (first, past the last) that are with the tokenizer."""
    since_s: float = 0.0
    limit_s: float = 0.0
    """How long this batch may take; past it the worker ends itself, and the cause is `timeout`."""
    begun_s: float = 0.0
    """When the attempt began; 0: it has not."""
    trace_id: str = ""
    """The attempt's trace, for whoever tells of its death."""

    def dumps(self) -> str:
        # not by `asdict`, which copies each row number: 6 ms for 11,000 rows, this 0.1 (measured)
        return _MARK.dump_json(self).decode()

    def doing(self, stage: str, since_s: float, **changes: Any) -> Mark:
        return replace(self, stage=stage, since_s=since_s, **changes)


def parse_mark(data: bytes | str) -> Mark | None:
    """The mark in a Redis value; None when it is not one of ours."""
    try:
        return _MARK.validate_json(data)
    except ValidationError:
        return None


_MARK = TypeAdapter(Mark)
_DIGITS = 10  # of a chunk's number: a plan has fewer, and int() takes no more than 4,300


class LeaseBook:
    """The leases of one job; safe for threads. Errors are redis-py's own (`redis.RedisError`)."""

    def __init__(self, client: Any, job: str, lease_s: float) -> None:
        self._client = client
        self._job = job
        self._ms = max(1, int(lease_s * 1000))
        self._marks = redis_keys.marks(job)
        self._take = client.register_script(_TAKE)
        self._hold = client.register_script(_HOLD)
        self._release = client.register_script(_RELEASE)
        self._abandon = client.register_script(_ABANDON)
        self._drop = client.register_script(_DROP_MARK)

    def take(self, chunk: int, mark: Mark) -> tuple[bool, Mark | None]:
        """Whether the chunk is ours now, and the mark of a dead attempt that nobody recorded."""
        taken, old = self._take(
            keys=[redis_keys.lease(self._job, chunk), self._marks],
            args=[mark.attempt, self._ms, chunk, mark.dumps(), redis_keys.JOB_LIFE_S],
        )
        return bool(taken), parse_mark(old) if old else None

    def hold(self, chunk: int, mark: Mark) -> bool:
        """Renew and write the mark; False when another attempt holds the chunk."""
        return bool(
            self._hold(
                keys=[redis_keys.lease(self._job, chunk), self._marks],
                args=[mark.attempt, self._ms, chunk, mark.dumps(), redis_keys.JOB_LIFE_S],
            )
        )

    def release(self, chunk: int, attempt: str) -> None:
        """Give the chunk back; harmless when it is no longer ours."""
        self._release(keys=[redis_keys.lease(self._job, chunk), self._marks], args=[attempt, chunk])
        self._client.hdel(redis_keys.live(self._job), attempt)

    def abandon(self, chunk: int, attempt: str) -> None:
        """Let others take the chunk at once, and leave the mark: this attempt is seen as crashed."""
        self._abandon(keys=[redis_keys.lease(self._job, chunk)], args=[attempt])

    def marks(self) -> dict[int, Mark]:
        """Every mark there is."""
        stored = self._client.hgetall(self._marks).items()
        found = {int(c): parse_mark(m) for c, m in stored if c.isdigit() and len(c) < _DIGITS}
        return {chunk: mark for chunk, mark in found.items() if mark is not None}

    def alive(self, chunks: Iterable[int]) -> set[int]:
        """Those of the chunks that somebody holds a lease on."""
        numbers = list(chunks)
        if not numbers:
            return set()
        values = self._client.mget([redis_keys.lease(self._job, c) for c in numbers])
        return {c for c, v in zip(numbers, values, strict=True) if v is not None}

    def dead(self) -> Mapping[int, Mark]:
        """Marks without a lease: attempts that died and that nobody has recorded."""
        marks = self.marks()
        alive = self.alive(marks)
        return {chunk: mark for chunk, mark in marks.items() if chunk not in alive}

    def forget(self, chunk: int, mark: Mark) -> None:
        """Take a dead attempt's mark away, unless another attempt has written its own since."""
        self._drop(keys=[self._marks], args=[chunk, mark.dumps()])
        self._client.hdel(redis_keys.live(self._job), mark.attempt)
