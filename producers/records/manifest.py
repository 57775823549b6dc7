"""Receipts folded into a manifest, and the verdict on a job. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from headrace.process.numbers import plural
from schemas.names import output_layout
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
