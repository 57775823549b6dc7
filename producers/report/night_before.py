"""An earlier night's figures beside this one's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from headrace.output.job_record import require_job
from headrace.process.numbers import compact_number, exact_duration, percent_of
from headrace.storage.store import Store
from producers.report.from_parts import sample_rows
from schemas.errors import JobNotFound
from schemas.names import output_layout
from schemas.records.manifest import Manifest, parse_manifest

MOST_LABELS = 5


@dataclass(frozen=True, slots=True)
class Night:
    """What is compared of a job that has ended."""

    output: str
    manifest: Manifest
    labels: Counter[str]


def read_night(store: Store) -> Night:
    """The figures of the job in an output.

    Raises:
        JobNotFound: there is no job, or it has not ended.
    """
    job = require_job(store)
    data = store.read(output_layout.MANIFEST)
    if data is None:
        raise JobNotFound(f"{store.uri} has no {output_layout.MANIFEST}: its job has not ended")
    manifest = parse_manifest(data, store.uri)
    chunks = [part.chunk for part in manifest.parts]
    return Night(store.uri, manifest, sample_rows(store, job, chunks).labels)


def side_by_side(
    manifest: Manifest, labels: Counter[str], before: Night
) -> list[tuple[str, str, str]]:
    """Name of a figure, tonight's value and the earlier one's."""
    nights = [_figures(manifest), _figures(before.manifest)]
    known = [name for name, _ in (labels + before.labels).most_common(MOST_LABELS)]
    for figures, counts in zip(nights, (labels, before.labels), strict=True):
        for name in known:
            figures[f"label {name}"] = percent_of(counts[name], counts.total())
    return [(name, value, nights[1][name]) for name, value in nights[0].items()]


def _figures(manifest: Manifest) -> dict[str, str]:
    totals = manifest.totals
    work_s = max(1e-9, manifest.finished_s - (manifest.started_s or manifest.submitted_s))
    return {
        "rows": compact_number(totals.rows),
        "error rows": f"{compact_number(totals.errors)} ({percent_of(totals.errors, totals.rows)})",
        "rows copied": compact_number(totals.reused),
        "tokens a row": f"{totals.tokens / max(1, totals.computed):.1f}",
        "from submit to end": exact_duration(manifest.finished_s - manifest.submitted_s),
        "rows a second": compact_number(totals.rows / work_s),
    }
