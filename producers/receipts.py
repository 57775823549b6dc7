"""Receipts of a job's parts: from Redis where they are, else from the store, else from the part."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from pydantic import ValidationError

from schemas import keys, layout, parquet
from schemas.errors import StorageError
from schemas.job import Job
from schemas.manifest import Receipt
from schemas.storage.store import Store

_THREADS = 16  # chosen: reads of small objects wait for the network, not for the CPU


def read_receipts(
    store: Store, job: Job, chunks: Collection[int], client: Any | None
) -> list[Receipt]:
    """A receipt for each of the chunks, all of which have a part."""
    known = _from_redis(client, job.key) if client is not None else {}
    missing = [c for c in chunks if c not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda c: _from_store(store, job, c), missing))
    return [known[c] for c in chunks if c in known] + found


def _from_redis(client: Any, job: str) -> dict[int, Receipt]:
    try:
        stored = client.hgetall(keys.done(job))
    except redis.RedisError:
        return {}
    return {r.chunk: r for r in (_parse(v) for v in stored.values()) if r is not None}


def _parse(data: bytes) -> Receipt | None:
    try:
        return Receipt.model_validate_json(data)
    except ValidationError:
        return None


def _from_store(store: Store, job: Job, chunk: int) -> Receipt:
    data = store.read(layout.receipt(chunk))
    receipt = _parse(data) if data is not None else None
    if receipt is None:
        receipt = receipt_of_part(store, job, chunk)
        store.replace(layout.receipt(chunk), receipt.model_dump_json().encode())
    return receipt


def receipt_of_part(store: Store, job: Job, chunk: int) -> Receipt:
    """The receipt as the part itself tells it.

    Raises:
        StorageError: the part is not there, or not one of this job.
    """
    import pyarrow.parquet as pq

    data = store.read(layout.part(chunk))
    if data is None:
        raise StorageError(f"{store.uri}/{layout.part(chunk)} is gone")
    try:
        facts = {
            k.decode(): v.decode()
            for k, v in (pq.read_metadata(io.BytesIO(data)).metadata or {}).items()
        }
        if facts[parquet.META_JOB] != job.id or int(facts[parquet.META_CHUNK]) != chunk:
            raise StorageError(f"{store.uri}/{layout.part(chunk)} belongs to another job or chunk")
        rows, ok = int(facts[parquet.META_ROWS]), int(facts[parquet.META_OK])
        return Receipt(
            chunk=chunk,
            rows=rows,
            ok=ok,
            errors=rows - ok,
            errors_by_type=json.loads(facts[parquet.META_ERRORS]),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            attempt=facts[parquet.META_ATTEMPT],
            trace_id=facts.get(parquet.META_TRACE),
            **json.loads(facts.get(parquet.META_STATS, "{}")),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StorageError(
            f"{store.uri}/{layout.part(chunk)} is no part of headrace: {error}"
        ) from error


def parts_of(store: Store) -> Iterator[int]:
    """The chunks that have a part, by a full listing."""
    for info in store.list(layout.DATA):
        chunk = layout.chunk_of_part(info.name)
        if chunk is not None:
            yield chunk
