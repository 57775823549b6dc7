"""The second job of `submit --challenger`, and the comparison when both are done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headrace.storage.open import open_store
from headrace.tracing.job_trace import JobTrace
from producers.commands.quality.compare import compare_outputs
from producers.commands.session import Session
from producers.driver.job_setup import StoredJob
from producers.driver.session import Broker
from producers.driver.submission import store_for_fleet
from producers.submission.challenger import challenger_settings, draw_rows, read_share
from schemas.names import output_layout
from schemas.records.job import Job


@dataclass(frozen=True, slots=True)
class Challenge:
    """Which model challenges that of a job, on which share of its texts, and where it writes."""

    model: str
    share: float
    output: str


def read_challenge(model: str, share: str, output: str) -> Challenge:
    """The challenge that the options ask for. Raises ConfigError for a share that is none."""
    return Challenge(model, read_share(share), output)


def store_challenger(
    session: Session, stored: StoredJob, challenge: Challenge, broker: Broker, trace: JobTrace
) -> StoredJob:
    """The challenger's job in its own output; not announced yet. Safe to call again.

    Raises:
        UsageError: of the kinds that `draw_rows` and `store_for_fleet` name.
    """
    settings, terminal = session.settings, session.terminal
    opened = partial(open_store, settings=settings)
    into = opened(challenge.output)
    drawn = draw_rows(stored.job, stored.store, into, challenge.share, opened, terminal.note)
    terminal.note(f"challenger: {challenge.model} on {drawn.rows:,} rows")
    return store_for_fleet(
        challenger_settings(settings, challenge.model, stored.job),
        [f"{into.uri}/{output_layout.SAMPLE}"],
        challenge.output,
        broker,
        trace,
        terminal.note,
        terminal.warn,
    )


def compare_with_challenger(session: Session, job: Job, challenger: Job) -> int:
    """Show what the challenger changes on the rows that it got."""
    return compare_outputs(
        session, job.output, challenger.output, label_column=None, slices=(), gate=None, ask=None,
        ask_to=Path(),
    )  # fmt: skip
