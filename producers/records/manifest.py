"""Receipts of a job's parts, and the manifest that they add up to.

A receipt comes from Redis, else from the store, else from the part itself.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import ValidationError

from headrace.process.numbers import plural
from headrace.redis_client import RedisClient, as_bytes
from headrace.storage.store import PARALLEL_READS, Store
from schemas.errors import StorageError
from schemas.names import output_layout, redis_keys
from schemas.records import part_schema
from schemas.records.job import Job
from schemas.records.manifest import (
    JobState,
    Manifest,
    ManifestPart,
    Parked,
    Receipt,
    Totals,
)
from schemas.records.model_key import engine_name


@dataclass(slots=True)
class ReceiptBook:
    """The receipts of one job, kept by the controller that follows it. Errors are redis-py's own.

    Redis passes them on and keeps none: some 0.5 kB a chunk would fill it in a night of a million.
    A controller that takes over finds them in the store. Not thread-safe.
    """

    job: Job
    store: Store
    client: RedisClient
    _kept: dict[int, bytes] = field(default_factory=dict)

    def take(self, chunks: Sequence[int]) -> set[int]:
        """Chunks whose receipt is in Redis. Removes those receipts from Redis."""
        if not chunks:
            return set()
        key = redis_keys.done(self.job.key)
        values = self.client.hmget(key, chunks)
        told = {c: as_bytes(v) for c, v in zip(chunks, values, strict=True) if v is not None}
        if told:
            self._kept.update(told)
            self.client.hdel(key, *told)
        return set(told)

    def forget(self, chunks: Collection[int]) -> None:
        """Forget these chunks: they have no part, even if a receipt was reported."""
        for chunk in chunks:
            self._kept.pop(chunk, None)

    def read(self, chunks: Sequence[int]) -> list[Receipt]:
        """A receipt for each of the chunks, all of which have a part. Raises StorageError."""
        self.take([c for c in chunks if c not in self._kept])
        parsed = {c: _parse(self._kept[c], c) for c in chunks if c in self._kept}
        known = {c: receipt for c, receipt in parsed.items() if receipt is not None}
        missing = [c for c in chunks if c not in known]
        return [*known.values(), *read_receipts(self.store, self.job, missing)]


def read_receipts(store: Store, job: Job, chunks: Collection[int]) -> list[Receipt]:
    """A receipt from the store for each of the chunks, all of which have a part."""
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(lambda c: _from_store(store, job, c), chunks))


def _parse(data: bytes, chunk: int) -> Receipt | None:
    try:
        receipt = Receipt.model_validate_json(data)
    except ValidationError:
        return None
    return receipt if receipt.chunk == chunk else None


def _from_store(store: Store, job: Job, chunk: int) -> Receipt:
    data = store.read(output_layout.receipt(chunk))
    receipt = _parse(data, chunk) if data is not None else None
    if receipt is None:
        receipt = receipt_of_part(store, job, chunk)
        store.replace(output_layout.receipt(chunk), receipt.model_dump_json().encode())
    return receipt


def receipt_of_part(store: Store, job: Job, chunk: int) -> Receipt:
    """The receipt as the part itself tells it.

    Raises:
        StorageError: the part is not there, or not one of this job.
    """
    import pyarrow.parquet as pq

    data = store.read(output_layout.part(chunk))
    if data is None:
        raise StorageError(f"{store.uri}/{output_layout.part(chunk)} is gone")
    try:
        facts = {
            k.decode(): v.decode()
            for k, v in (pq.read_metadata(io.BytesIO(data)).metadata or {}).items()
        }
        if facts[part_schema.META_JOB] != job.id or int(facts[part_schema.META_CHUNK]) != chunk:
            raise StorageError(
                f"{store.uri}/{output_layout.part(chunk)} belongs to another job or chunk"
            )
        rows, ok = int(facts[part_schema.META_ROWS]), int(facts[part_schema.META_OK])
        return Receipt(
            chunk=chunk,
            rows=rows,
            ok=ok,
            errors=rows - ok,
            errors_by_type=json.loads(facts[part_schema.META_ERRORS]),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            attempt=facts[part_schema.META_ATTEMPT],
            trace_id=facts.get(part_schema.META_TRACE),
            **json.loads(facts.get(part_schema.META_STATS, "{}")),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StorageError(
            f"{store.uri}/{output_layout.part(chunk)} is no part of headrace: {error}"
        ) from error


def parts_of(store: Store) -> Iterator[int]:
    """The chunks that have a part, by a full listing."""
    for info in store.list(output_layout.DATA):
        chunk = output_layout.chunk_of_part(info.name)
        if chunk is not None:
            yield chunk


# -- what the receipts add up to: pure


def build_manifest(
    job: Job,
    receipts: Iterable[Receipt],
    parked: Sequence[Parked],
    *,
    finished_s: float,
    versions: dict[str, str],
    stopped: tuple[JobState, str] | None = None,
    cause: str = "",
) -> Manifest:
    """The record of a job that has ended.

    `stopped`: the state and the reason of a job that ended before all its chunks had; `cause`: the
    class of the error that its chunks share.
    """
    ordered = sorted(receipts, key=lambda r: r.chunk)
    done = {r.chunk for r in ordered}
    left = [p for p in parked if p.chunk not in done]  # a part outranks a parked record
    totals = _totals(job, ordered, len(left))
    state, reason = stopped or _verdict(job, totals, left)
    return Manifest(
        job=job.id,
        state=state,
        reason=reason,
        cause=cause,
        totals=totals,
        parts=tuple(_part(r) for r in ordered),
        parked=tuple(left),
        inputs_digest=job.inputs.digest,
        model=job.spec.model.uri,
        model_revision=job.spec.model.revision,
        dtype=job.spec.dtype,
        engine=engine_name(job.spec),
        precision=job.precision,
        versions=versions,
        tokenizers=dict(Counter(r.tokenizer for r in ordered if r.tokenizer)),
        warnings=tuple(dict.fromkeys((*job.warnings, *(w for r in ordered for w in r.warnings)))),
        submitted_s=job.submitted_s,
        started_s=min((r.started_s for r in ordered if r.started_s), default=None),
        finished_s=finished_s,
    )


def is_hopeless(job: Job, error_rows: int) -> bool:
    """More error rows than the threshold allows for the whole job."""
    return error_rows > job.options.error_threshold * job.rows


def _verdict(job: Job, totals: Totals, parked: Sequence[Parked]) -> tuple[JobState, str]:
    if parked:
        causes = ", ".join(f"{n} × {c}" for c, n in Counter(p.cause for p in parked).most_common())
        return "failed", f"{plural(len(parked), 'chunk')} parked: {causes}"
    if totals.parts < job.chunks:
        return "failed", f"{plural(job.chunks - totals.parts, 'chunk')} without a part"
    if is_hopeless(job, totals.errors):
        share = totals.errors / max(1, job.rows)
        return (
            "failed",
            f"{share:.2%} error rows, the threshold is {job.options.error_threshold:.2%}",
        )
    return "finished", ""


def _totals(job: Job, receipts: Sequence[Receipt], parked: int) -> Totals:
    by_type: Counter[str] = Counter()
    for receipt in receipts:
        by_type.update(receipt.errors_by_type)
    return Totals(
        chunks=job.chunks,
        parts=len(receipts),
        parked=parked,
        rows=sum(r.rows for r in receipts),
        planned_rows=job.rows,
        ok=sum(r.ok for r in receipts),
        errors=sum(r.errors for r in receipts),
        errors_by_type=dict(sorted(by_type.items())),
        tokens=sum(r.tokens for r in receipts),
        computed=sum(r.computed for r in receipts),
        reused=sum(r.reused for r in receipts),
        truncated=sum(r.truncated for r in receipts),
        padding_tokens=sum(r.padding_tokens for r in receipts),
        bytes=sum(r.bytes for r in receipts),
        device_s=round(sum(r.seconds for r in receipts), 3),
        stages_s=stages_of(receipts),
    )


def stages_of(receipts: Iterable[Receipt]) -> dict[str, float]:
    """Busy seconds of each stage, summed; the longest first."""
    sums: Counter[str] = Counter()
    for receipt in receipts:
        sums.update(receipt.stages_s)
    return {stage: round(s, 3) for stage, s in sums.most_common()}


def _part(receipt: Receipt) -> ManifestPart:
    return ManifestPart(
        chunk=receipt.chunk,
        name=output_layout.part(receipt.chunk),
        rows=receipt.rows,
        ok=receipt.ok,
        errors=receipt.errors,
        bytes=receipt.bytes,
        sha256=receipt.sha256,
    )
