"""The live counters of a job in Redis: each committed chunk is in them once, whoever tells of it.

A chunk is told of by the worker that committed it, and by every controller that finds its part: at
a take-over, after a restart, after Redis was lost. So whether it is counted, and that it is, are
one step of Redis's own: the counters are always the sum over the receipts in `headrace:done:{id}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from schemas import keys
from schemas.manifest import Receipt

_AT_ONCE = 500  # chosen: some 300 kB in one go

# KEYS: job, done, errors. ARGV: chunk, receipt, life, number of counters, then names and amounts:
# first of the job's counters, then of the classes of errors.
_COUNT = """
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then return 0 end
local counters = tonumber(ARGV[4])
for i = 5, #ARGV, 2 do
  local key = (i - 5) / 2 < counters and KEYS[1] or KEYS[3]
  redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1])
end
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
"""
# The way back, with negative amounts; only of the receipt that was read.
_TAKE_OUT = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
local counters = tonumber(ARGV[4])
for i = 5, #ARGV, 2 do
  local key = (i - 5) / 2 < counters and KEYS[1] or KEYS[3]
  redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1])
end
return 1
"""


def begin_counting(client: Any, job: str, epoch: str, facts: Mapping[str, Any]) -> None:
    """Take over the counters of the job, or begin at zero where Redis does not know it.

    `job` is the run key. Nothing is counted before this, or after the job's keys are gone.
    """
    key = keys.job(job)
    if client.hexists(key, "epoch"):
        client.hset(key, mapping={**facts, "epoch": epoch})
        client.expire(key, keys.JOB_LIFE_S)
        return
    old = [name for name in client.hkeys(key) if name.startswith(keys.STAGE_MS.encode())]
    pipe = client.pipeline(transaction=True)
    pipe.delete(keys.done(job), keys.errors(job))
    if old:
        pipe.hdel(key, *old)
    zero = dict.fromkeys(keys.COUNTERS, 0)
    pipe.hset(key, mapping={**facts, **zero, "epoch": epoch})
    pipe.expire(key, keys.JOB_LIFE_S)
    pipe.execute()


def count_in(client: Any, job: str, receipts: Iterable[Receipt]) -> int:
    """Count these chunks, each only if it is not counted yet; how many were not."""
    return _each(client, _COUNT, job, [(r, r.model_dump_json().encode(), 1) for r in receipts])


def take_out(client: Any, job: str, chunks: Iterable[int]) -> int:
    """Count these chunks no more, for their parts are gone; how many had been counted."""
    found = []
    for chunk in chunks:
        data = client.hget(keys.done(job), chunk)
        if data is None:
            continue
        try:
            found.append((Receipt.model_validate_json(data), data, -1))
        except ValidationError:  # nobody could have counted it
            client.hdel(keys.done(job), chunk)
    return _each(client, _TAKE_OUT, job, found)


def _each(client: Any, script: str, job: str, told: list[tuple[Receipt, bytes, int]]) -> int:
    names = (keys.job(job), keys.done(job), keys.errors(job))
    counted = 0
    for start in range(0, len(told), _AT_ONCE):
        pipe = client.pipeline(transaction=False)
        for receipt, data, sign in told[start : start + _AT_ONCE]:
            counters = keys.counters_of(receipt)
            amounts = [
                word
                for name, amount in (*counters.items(), *receipt.errors_by_type.items())
                for word in (name, sign * amount)
            ]
            pipe.eval(
                script, 3, *names, receipt.chunk, data, keys.JOB_LIFE_S, len(counters), *amounts
            )
        counted += sum(map(int, pipe.execute()))
    return counted
