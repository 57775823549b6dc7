"""Renders the page: facts and figures in the template."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.process.numbers import (
    compact_number,
    compact_plural,
    compact_rate,
    exact_duration,
    percent_of,
    short_size,
    utc_time,
)
from headrace.process.redact import redact
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from producers.pages.base_style import base_style
from producers.quality.intervals import wilson
from producers.report import plots_of_rows, plots_of_time
from producers.report.estimate_vs_actual import compare, how_predicted
from producers.report.facts import Facts, read_facts
from producers.report.night_before import Night, read_night, side_by_side
from producers.report.plot_canvas import Picture
from producers.report.texts import TextReader
from producers.report.training import learning, training_section
from schemas.errors import HeadraceError, MissingExtra
from schemas.records.job import Job
from schemas.training_tasks import JOB_TASKS

SLOWEST = 10
VERDICTS = {
    "finished": "Every row is accounted for",
    "failed": "The job failed",
    "cancelled": "The job was cancelled",
    "running": "The job has not ended yet",
    "paused": "The job is paused",
}


TIMES = {"throughput", "timeline", "waterfall", "latency"}
"""The plots of the section Time."""
ENDS = ("finished", "failed", "cancelled")


def build_report(
    store: Store,
    settings: Settings,
    *,
    with_texts: bool = False,
    against: str | None = None,
    jaeger: str | None = None,
    now_s: float | None = None,
) -> str:
    """The report of the job in this output, as one HTML page.

    `with_texts` adds the texts of the rows shown as examples; without it the page holds ids only.
    `against` is an earlier output, whose figures are shown beside; without it that of `--reuse`.
    `jaeger` is the address of a Jaeger, for links.

    Raises:
        JobNotFound: the output holds no job.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    ask = TextReader(store, settings) if with_texts else None
    facts = read_facts(store, time.time() if now_s is None else now_s, ask)
    return render(replace(facts, before=_before(facts.job, settings, against)), jaeger=jaeger)


def _before(job: Job, settings: Settings, against: str | None) -> Night | None:
    """The night to compare with; that of `--reuse` may be gone by now."""
    if against is not None:
        return read_night(open_store(against, settings))
    if job.options.reuse_output is None:
        return None
    try:
        return read_night(open_store(job.options.reuse_output, settings))
    except (HeadraceError, OSError):
        return None


def render(facts: Facts, *, jaeger: str | None = None) -> str:
    """The page of these facts."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtra("a report needs jinja2: pip install 'headrace[report]'") from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": compact_number,
        "rate": compact_rate,
        "seconds": exact_duration,
        "when": utc_time,
    }
    environment.filters["quoted"] = shlex.quote
    shown = {k: (p, Markup(p.svg)) for k, p in pictures(facts).items()}
    template = environment.from_string((Path(__file__).parent / "page.html").read_text())
    return template.render(
        base_style=Markup(base_style()),
        job=facts.job,
        manifest=facts.manifest,
        totals=facts.manifest.totals,
        verdict=VERDICTS.get(facts.manifest.state, facts.manifest.state),
        reason=sentence(redact(facts.manifest.reason)),
        by_what=by_what(facts),
        missing=facts.job.rows - facts.manifest.totals.rows,
        tiles=tiles(facts),
        compared=compare(facts),
        how_predicted=how_predicted(facts),
        answers=answers(facts),
        training=training_section(facts),
        pictures=shown,
        has_times=bool(shown.keys() & TIMES),
        sample=facts.sample,
        errors=facts.errors,
        failed=facts.failed[:50],
        slowest=sorted(facts.receipts, key=lambda r: -r.seconds)[:SLOWEST],
        workers=workers(facts),
        about=about(facts),
        versions=sorted(facts.manifest.versions.items()),
        warnings=[sentence(redact(words)) for words in facts.manifest.warnings],
        command=redact(short_command(facts.job.command)),
        percent=percent_of,
        plural=compact_plural,
        has_texts=bool(facts.shown)
        or any(e.text is not None for it in facts.errors for e in it.examples),
        failed_ids=facts.failed_ids,
        shown=facts.shown,
        agreements=[(a, wilson(a.equal, a.of)) for a in facts.sample.agreements],
        before=facts.before and redact(facts.before.output),
        nights=_nights(facts),
        jaeger=jaeger.rstrip("/") if jaeger else None,
    )


def _nights(facts: Facts) -> list[tuple[str, str, str]]:
    if facts.before is None:
        return []
    return side_by_side(facts.manifest, facts.sample.labels, facts.before)


def by_what(facts: Facts) -> str:
    """A sentence about what scored the rows."""
    spec = facts.job.spec
    if spec.task in JOB_TASKS.values():
        return "by the model that was trained on them"
    if not task_spec(spec.task).needs_model:
        return f"by the task {spec.task}, which has no model"
    return f"with {redact(spec.model.uri)}"


def pictures(facts: Facts) -> dict[str, Picture]:
    """The plots that have data, by name."""
    time, rows = plots_of_time, plots_of_rows
    makers = (
        *(time.throughput, time.timeline, time.waterfall, time.latency),
        *(rows.labels, rows.scores, rows.lengths, rows.padding),
        learning,
    )
    return {make.__name__: p for make in makers if (p := make(facts)) is not None}


def tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """The numbers at the top of the page: value, name, remark."""
    totals, manifest = facts.manifest.totals, facts.manifest
    work_s = manifest.finished_s - (manifest.started_s or manifest.submitted_s)
    scored = sum(r.rows for r in facts.receipts)
    work_s = max(work_s, 1e-9)
    return [
        (compact_number(totals.rows), "rows", f"of {compact_number(facts.job.rows)} planned"),
        (compact_number(totals.errors), "error rows", percent_of(totals.errors, totals.rows)),
        (
            exact_duration(manifest.finished_s - manifest.submitted_s),
            "from submit to end" if manifest.state in ENDS else "since the submission",
            f"{exact_duration(work_s)} of work",
        ),
        (
            compact_number(scored / work_s),
            "rows a second",
            f"{compact_number(totals.tokens / work_s)} tokens a second",
        ),
        (
            percent_of(totals.padding_tokens, totals.tokens + totals.padding_tokens),
            "padding",
            f"{compact_number(totals.tokens)} tokens of text",
        ),
        (
            compact_number(len({r.worker for r in facts.receipts})),
            "workers",
            f"{exact_duration(totals.device_s)} of their time",
        ),
    ]


def answers(facts: Facts) -> list[tuple[str, int]]:
    """Where the predictions came from, if not all were computed."""
    totals = facts.manifest.totals
    duplicates = max(0, totals.ok - totals.computed - totals.reused)
    if not totals.reused and not duplicates:
        return []
    found = [
        ("computed", totals.ok - totals.reused - duplicates),
        ("copied from a row with the same text", duplicates),
        ("copied from an earlier output", totals.reused),
    ]
    return [(name, rows) for name, rows in found if rows or name == "computed"]


def workers(facts: Facts) -> list[dict[str, Any]]:
    """What each worker did."""
    by_worker: dict[str, list[Any]] = defaultdict(list)
    for receipt in facts.receipts:
        by_worker[receipt.worker or "?"].append(receipt)
    return [
        {
            "name": name,
            "device": done[0].device,
            "chunks": len(done),
            "rows": sum(r.rows for r in done),
            "busy_s": sum(r.seconds for r in done),
            "rate": sum(r.rows for r in done) / max(1e-9, sum(r.seconds for r in done)),
        }
        for name, done in sorted(by_worker.items())
    ]


def about(facts: Facts) -> list[tuple[str, str]]:
    """The job's properties as text."""
    job, spec, totals = facts.job, facts.job.spec, facts.manifest.totals
    patterns = ", ".join(map(redact, job.inputs.patterns))
    has_model = task_spec(spec.task).needs_model
    model = f"{redact(spec.model.uri)} · {spec.model.revision}" if has_model else ""
    checked = f" · {redact(job.precision.sentence())}" if job.precision else ""
    lines = [
        ("Job", job.id),
        (
            "Input",
            f"{patterns} · {compact_plural(job.inputs.files, 'file')}, {short_size(job.inputs.bytes)}",
        ),
        (
            "Output",
            f"{redact(job.output)} · {compact_plural(totals.parts, 'part')}, {short_size(totals.bytes)}",
        ),
        ("Task", spec.task),
        ("Model", model),
        ("Precision", spec.dtype + checked if has_model else ""),
        ("Text column", spec.text_column),
        ("Text", spec.text or ""),
        ("Id column", spec.id_column or "row number in its file"),
        ("Carried columns", ", ".join(c.name for c in job.carried)),
        ("Submitted", utc_time(job.submitted_s)),
        (
            "Ended" if facts.manifest.state in ENDS else "As of",
            utc_time(facts.manifest.finished_s),
        ),
        ("Rows reused of", redact(job.options.reuse_output or "")),
        ("Trace of the job", job.trace_id or ""),
    ]
    return [(name, value) for name, value in lines if value]


def sentence(text: str) -> str:
    """The text with a capital first letter, for the start of a sentence; the rest unchanged."""
    return text[:1].upper() + text[1:]


def short_command(command: str) -> str:
    """The command without the folder of its program."""
    program, _, rest = command.partition(" ")
    return f"{program.rpartition('/')[2]} {rest}" if rest else command
