"""Checks a precision, before a job or by itself, on a sample of its rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from headrace.formats.opener import InputOpener
from headrace.output.job_record import read_job
from headrace.settings import Settings, cache_folder
from headrace.storage.open import open_store
from producers.submission.precision import (
    GATED,
    ask_engine,
    check,
    precision_verdict,
    question,
)
from producers.submission.prepare import PreparedJob
from schemas.records.precision import PrecisionCheck


def check_precision(
    settings: Settings, prepared: PreparedJob, note: Callable[[str], None]
) -> PrecisionCheck:
    """How close the job's precision is to float32 on a sample of its rows.

    Raises:
        InputUnreadable, StorageError: the sample cannot be read.
    """
    request = question(prepared, settings, InputOpener(partial(open_store, settings=settings)))
    note(f"comparing {request.dtype} with float32 on {len(request.texts):,} rows")
    return check(
        request, settings, cache_folder() / "precision", partial(ask_engine, settings=settings)
    )


def check_before_job(
    settings: Settings, prepared: PreparedJob, note: Callable[[str], None]
) -> tuple[PrecisionCheck | None, str | None]:
    """The check that a job's precision needs, and a warning if it was accepted below the floor.

    None for float32, for a job without rows, and for one that exists already.

    Raises:
        PrecisionRefused: it is below the floor or could not be checked, and that was not accepted.
        InputUnreadable, StorageError: the sample cannot be read.
    """
    if prepared.spec.dtype not in GATED or not prepared.corpus.rows:
        return None, None
    if read_job(open_store(prepared.output, settings)) is not None:
        # checked when it was made; a different job is refused with its reason
        return None, None
    checked = check_precision(settings, prepared, note)
    return checked, precision_verdict(checked, prepared.spec.dtype)
