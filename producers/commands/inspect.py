"""`verify`, `explain`, `traces`, `doctor`: questions to an output or to this machine."""

from __future__ import annotations

import json
import time
from typing import Any

from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri
from producers.terminal.context import (
    err,
    out,
    settings_of,
)
from producers.terminal.verification import render_verdict
from producers.verification.verify import verify
from schemas.errors import ExitCode
from schemas.names import output_layout


def _store(output: str, settings: Settings) -> Store:
    return open_store(normalise_uri(output), settings)


def verify_output(output: str, *, as_json: bool) -> int:
    """Recount; the certificate with --json."""
    settings = settings_of({})
    if as_json or not err.is_terminal:
        result = verify(_store(output, settings), settings, now_s=time.time())
    else:
        with err.status("recounting") as status:
            result = verify(
                _store(output, settings), settings, now_s=time.time(),
                progress=lambda done, of: status.update(f"recounting: {done:,} of {of:,} chunks"),
            )  # fmt: skip
    if as_json:
        out.print_json(json.dumps(result.to_json()))
        return ExitCode.OK if result.ok_overall else ExitCode.VERIFY_FAILED
    out.print(render_verdict(result))
    return ExitCode.OK if result.ok_overall else ExitCode.VERIFY_FAILED


def explain_row(output: str, row_id: str, jaeger: str | None, *, as_json: bool) -> int:
    """One row: its part, attempts, stages, error, trace."""
    from producers.inspection.explain import explain, render_explanation

    found = explain(_store(output, settings_of({})), row_id, jaeger=jaeger)
    if as_json:
        out.print_json(json.dumps(found, default=str))
    else:
        out.print(render_explanation(found), highlight=False, markup=False, soft_wrap=True)
    return ExitCode.OK if found["rows"] else ExitCode.JOB_NOT_FOUND


def send_to_collector(output: str, url: str) -> int:
    """The spans under `_traces/`, to an OTLP collector."""
    from producers.inspection.trace_export import send_traces

    sent = send_traces(_store(output, settings_of({})), url)
    out.print(f"sent {sent.spans:,} spans of {sent.files:,} files", highlight=False)
    return ExitCode.OK


def write_report(output: str, to: str | None, jaeger: str | None, *, with_texts: bool) -> int:
    """The job as one page that opens from disk."""
    from pathlib import Path

    from producers.report import build_report

    settings = settings_of({})
    store = _store(output, settings)
    page = build_report(store, settings, with_texts=with_texts, jaeger=jaeger)
    if to is None:
        store.replace(output_layout.REPORT, page.encode())
        out.print(f"{store.uri}/{output_layout.REPORT}", highlight=False, soft_wrap=True)
    else:
        Path(to).write_text(page)
        out.print(to, highlight=False, soft_wrap=True)
    return ExitCode.OK


def run_doctor(output: str | None, flags: dict[str, Any], *, as_json: bool) -> int:
    """What is installed and what answers."""
    from producers.inspection.doctor import examine, render_report

    settings = settings_of(flags)
    found = examine(settings, output)
    if as_json:
        out.print_json(json.dumps(found.to_json()))
    else:
        out.print(render_report(found))
    return ExitCode.OK if found.ok else ExitCode.UNEXPECTED
