"""Checks whether a precision gives the same answers as float32 on this corpus; caches the result.

The engine is another process, `headrace-worker check-precision`: torch is never imported here. A
result is kept in the user's cache under the digest of everything it depends on: the rows that were
drawn, the model, the task's options, the precision, and the versions of what computes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headrace.formats.opener import OpenFile
from headrace.process.atomic_file import write_atomically
from headrace.queue.embedded_redis import die_with
from headrace.settings import (
    Settings,
    environment_of,
    process_environment,
)
from producers.local.worker_command import find_worker_executable
from producers.planning.sample import choose_rows, read_rows
from producers.submission.prepare import PreparedJob
from schemas.errors import ExitCode, HeadraceError, PrecisionRefused
from schemas.records.precision import (
    Agreement,
    PrecisionCheck,
    PrecisionRequest,
)
from schemas.versions import versions

Ask = Callable[[PrecisionRequest], Agreement]
"""Scores the rows both ways. Raises NotChecked."""

GATED = frozenset({"int8"})
"""Precisions that are refused unless a check found them close enough to float32."""
TIMEOUT_S = 1_800.0  # chosen: a large model on one core; a check that hangs must end
KEPT = 200  # chosen: half a kilobyte each


class NotChecked(Exception):
    """The comparison was not possible; the message says why."""


def question(prepared: PreparedJob, settings: Settings, open_file: OpenFile) -> Any:
    """The request for this job: rows drawn from all over its corpus.

    Raises:
        InputUnreadable, StorageError: the rows cannot be read.
    """
    spec, corpus = prepared.spec, prepared.corpus
    columns = [spec.text_source, *([spec.pair_source] if spec.pair_source else [])]
    places = choose_rows(
        corpus.files, corpus.rows, settings.precision_rows, spec.inputs_digest, spec.limit
    )
    rows = list(read_rows(places, columns, open_file))[: settings.precision_rows]
    return PrecisionRequest(
        task=spec.task,
        params=spec.params,
        model_uri=spec.model.uri,
        model_revision=spec.model.revision,
        dtype=spec.dtype,
        max_length=spec.max_length,
        engine=spec.engine,
        trust_remote_code=settings.trust_remote_code,
        allow_pickle=settings.allow_pickle,
        texts=tuple(row[0] for row in rows),
        pairs=tuple(row[1] for row in rows) if spec.pair_source else None,
    )


def check(request: PrecisionRequest, settings: Settings, folder: Path, ask: Ask) -> PrecisionCheck:
    """The result for this precision: from the cache in `folder`, else from the engine."""
    file = folder / f"{request.digest(versions())}.json"
    known = _remembered(file)
    why = ""
    if known is None:
        try:
            known = ask(request)
            _remember(file, known)
        except NotChecked as error:
            why = str(error)
    return PrecisionCheck(
        floor=settings.precision_floor,
        agreement=known,
        why=why,
        accepted=settings.accept_precision,
    )


def precision_verdict(checked: PrecisionCheck, dtype: str) -> str | None:
    """A warning for a job that continues; None if there is nothing to warn of. Pure.

    Raises:
        PrecisionRefused: the job must not continue like this.
    """
    said = f"{dtype}: {checked.sentence()}"
    found = checked.agreement
    if not checked.passed:
        if checked.accepted:
            return f"{said}; accepted (--accept-precision)"
        raise PrecisionRefused(f"{said}. {_way_out(checked)}")
    if found is not None and found.entities is not None and found.entities < checked.floor:
        return (
            f"{said}, but only {found.entities:.1%} of those that name an entity: look at "
            "headrace plan --check-precision before you run this every night"
        )
    return None


def _way_out(checked: PrecisionCheck) -> str:
    if checked.agreement is None:
        return (
            "Submit from a machine with the engine and a worker's kind of device, or go on "
            "unchecked with --accept-precision"
        )
    return (
        "Use float32 (or bfloat16, where the workers have it), a lower --precision-floor, or go on "
        "all the same with --accept-precision"
    )


def ask_engine(request: PrecisionRequest, settings: Settings) -> Agreement:
    """Ask `headrace-worker check-precision` on this machine.

    Raises:
        NotChecked: it is not installed, lacks the device, fails, or takes too long.
    """
    try:
        command = [find_worker_executable(), "check-precision"]
        done = subprocess.run(
            command,
            input=request.model_dump_json().encode(),
            env=process_environment(**environment_of(settings)),
            capture_output=True,
            timeout=TIMEOUT_S,
            preexec_fn=die_with(os.getpid()),
        )
    except HeadraceError as error:
        raise NotChecked(str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise NotChecked(f"no answer within {TIMEOUT_S / 60:.0f} minutes") from error
    if done.returncode == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    try:
        return Agreement.model_validate_json(done.stdout)
    except ValidationError as error:
        raise NotChecked(_last_words(done.stderr, done.returncode)) from error


def _last_words(errors: bytes, code: int) -> str:
    """The last line of a failed check; the command's own line starts with `error:`."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"headrace-worker ended with {code}"


def _remembered(file: Path) -> Agreement | None:
    try:
        return Agreement.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _remember(file: Path, found: Agreement) -> None:
    """Cache the result and delete the oldest ones; without a writable cache the next job checks again."""
    with suppress(OSError):
        write_atomically(file, found.model_dump_json())
        kept = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-KEPT]:
            old.unlink(missing_ok=True)
