"""The live counters of a job in Redis: each committed chunk is counted once.

A chunk is reported by the worker that committed it, and by every controller that finds its part: at
a takeover, after a restart, after Redis lost its data. So one script in Redis checks and counts it:
the counters are always the sum over the chunks whose bit is set in `headrace:counted:{id}`.
Receipts wait in `headrace:done:{id}` until the controller takes them; afterwards Redis keeps one
bit per chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.coordination.redis_values import as_record
from headrace.redis_client import RedisClient, as_bytes, as_text
from schemas.names import redis_keys
from schemas.records.manifest import Receipt

_MOST_ROWS = 10**9  # per chunk: a larger number is invalid
_MOST_NOTE = 200  # letters: a longer one is not ours
_AT_ONCE = 500  # chosen: some 300 kB in one go

# KEYS: job, done, errors, counted. ARGV: chunk, receipt or '', life, number of counters, then names
# and amounts: first of the job's counters, then of the classes of errors.
_COUNT = """
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
if redis.call('SETBIT', KEYS[4], ARGV[1], 1) == 1 then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
local counters = tonumber(ARGV[4])
for i = 5, #ARGV, 2 do
  local key = (i - 5) / 2 < counters and KEYS[1] or KEYS[3]
  redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1])
end
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
"""


def reset_counters(
    client: RedisClient, job: str, epoch: str, facts: Mapping[str, Any], *, anew: bool = False
) -> None:
    """Take over the counters of the job, or start at zero if Redis has none.

    `job` is the run key. `anew` starts at zero in any case, since a counted part is gone. Nothing
    is counted before this call, or after the job's keys are deleted.
    """
    key = redis_keys.job(job)
    if client.hexists(key, "epoch") and not anew:
        fields: dict[Any, Any] = {**facts, "epoch": epoch}
        client.hset(key, mapping=fields)
        client.expire(key, redis_keys.JOB_LIFE_S)
        return
    old = [name for name in client.hkeys(key) if as_text(name).startswith(redis_keys.STAGE_MS)]
    pipe = client.pipeline(transaction=True)
    pipe.delete(redis_keys.done(job), redis_keys.errors(job), redis_keys.counted(job))
    if old:
        pipe.hdel(key, *old)
    zero: dict[Any, Any] = {**facts, **dict.fromkeys(redis_keys.COUNTERS, 0), "epoch": epoch}
    pipe.hset(key, mapping=zero)
    pipe.expire(key, redis_keys.JOB_LIFE_S)
    pipe.execute()


def counted(client: RedisClient, job: str) -> set[int]:
    """The chunks that are in the counters."""
    bits = np.frombuffer(as_bytes(client.get(redis_keys.counted(job)) or b""), dtype=np.uint8)
    found: list[int] = np.flatnonzero(np.unpackbits(bits)).tolist()
    return set(found)


def count_committed_chunk(client: RedisClient, job: str, receipt: Receipt) -> None:
    """Count a worker's chunk, if it is not counted yet, and leave the receipt."""
    _each(client, job, [(receipt, receipt.model_dump_json().encode())])


def count_in(client: RedisClient, job: str, receipts: Iterable[Receipt]) -> int:
    """Count those of these chunks that are not counted yet; returns how many."""
    return _each(client, job, [(receipt, b"") for receipt in receipts])


def rows_in_progress(values: Iterable[bytes | str]) -> int:
    """Rows scored in chunks that are not committed yet: the sum over the values of `live`."""
    return sum(_rows(as_record(value)) for value in values)


def note_in_progress(values: Iterable[bytes | str]) -> str:
    """Progress in words, from the values of `live`; empty where no worker sends any."""
    notes = [as_record(value).get("note") for value in values]
    return next((n[:_MOST_NOTE] for n in reversed(notes) if isinstance(n, str)), "")


def _rows(record: Mapping[str, Any]) -> int:
    rows = record.get("rows")
    return rows if isinstance(rows, int) and 0 <= rows <= _MOST_ROWS else 0


def _each(client: RedisClient, job: str, told: Sequence[tuple[Receipt, bytes]]) -> int:
    names = (
        redis_keys.job(job),
        redis_keys.done(job),
        redis_keys.errors(job),
        redis_keys.counted(job),
    )
    new = 0
    for start in range(0, len(told), _AT_ONCE):
        pipe = client.pipeline(transaction=False)
        for receipt, data in told[start : start + _AT_ONCE]:
            counters = redis_keys.counters_of(receipt)
            amounts = [
                word
                for pair in (*counters.items(), *receipt.errors_by_type.items())
                for word in pair
            ]
            pipe.eval(
                _COUNT,
                4,
                *names,
                receipt.chunk,
                data,
                redis_keys.JOB_LIFE_S,
                len(counters),
                *amounts,
            )
        new += sum(map(int, pipe.execute()))
    return new
