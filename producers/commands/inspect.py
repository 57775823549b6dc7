"""`verify`, `explain`, `traces`, `doctor`: questions to an output or to this machine."""

from __future__ import annotations

import time

from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri
from producers.commands.session import Session
from producers.terminal.verification import render_verdict
from producers.verification.verify import verify
from schemas.errors import ExitCode
from schemas.names import output_layout


def _store(output: str, settings: Settings) -> Store:
    return open_store(normalise_uri(output), settings)


def verify_output(session: Session, output: str) -> int:
    """Recount; the certificate with --json."""
    settings, terminal = session.settings, session.terminal
    if session.as_json or not terminal.err.is_terminal:
        result = verify(_store(output, settings), settings, now_s=time.time())
    else:
        with terminal.err.status("recounting") as status:
            result = verify(
                _store(output, settings), settings, now_s=time.time(),
                progress=lambda done, of: status.update(f"recounting: {done:,} of {of:,} chunks"),
            )  # fmt: skip
    if session.as_json:
        terminal.print_json(result.to_json())
    else:
        terminal.show(render_verdict(result))
    return ExitCode.OK if result.ok_overall else ExitCode.VERIFY_FAILED


def explain_row(session: Session, output: str, row_id: str, jaeger: str | None) -> int:
    """One row: its part, attempts, stages, error, trace."""
    from producers.inspection.explain import explain, render_explanation

    found = explain(_store(output, session.settings), row_id, jaeger=jaeger)
    if session.as_json:
        session.terminal.print_json(found)
    else:
        for line in render_explanation(found).split("\n"):
            session.terminal.say(line)
    return ExitCode.OK if found["rows"] else ExitCode.JOB_NOT_FOUND


def send_to_collector(session: Session, output: str, url: str) -> int:
    """The spans under `_traces/`, to an OTLP collector."""
    from producers.inspection.trace_export import send_traces

    sent = send_traces(_store(output, session.settings), url)
    session.terminal.say(f"sent {sent.spans:,} spans of {sent.files:,} files")
    return ExitCode.OK


def write_report(
    session: Session,
    output: str,
    to: str | None,
    jaeger: str | None,
    *,
    with_texts: bool,
    against: str | None = None,
) -> int:
    """The job as one page that opens from disk."""
    from pathlib import Path

    from producers.report import build_report

    store = _store(output, session.settings)
    page = build_report(
        store, session.settings, with_texts=with_texts, against=against, jaeger=jaeger
    )
    if to is None:
        store.replace(output_layout.REPORT, page.encode())
        session.terminal.say(f"{store.uri}/{output_layout.REPORT}")
    else:
        Path(to).write_text(page)
        session.terminal.say(to)
    return ExitCode.OK


def run_doctor(session: Session, output: str | None) -> int:
    """Show what is installed and what can be reached."""
    from producers.inspection.doctor import examine
    from producers.terminal.doctor import render_doctor

    found = examine(session.settings, output)
    if session.as_json:
        session.terminal.print_json(found.to_json())
    else:
        session.terminal.show(render_doctor(found))
    return ExitCode.OK if found.ok else ExitCode.UNEXPECTED
