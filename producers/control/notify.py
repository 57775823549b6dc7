"""The finish hook of a job: runs a command or POSTs to a URL when the job ends."""

from __future__ import annotations

import json
import shlex
import subprocess
import urllib.error
import urllib.request
from typing import Any

from headrace.process.logs import get_logger
from headrace.process.redact import redact
from headrace.settings import process_environment
from schemas.errors import HeadraceError
from schemas.records.job import Job
from schemas.records.manifest import Manifest

log = get_logger(__name__)

STANDARD_ERROR = 2
"""Where a hook's output goes: standard output is for the command's own result."""
_HOOK_S = 60.0  # chosen: a slow hook must not block the controller


def run_finish_hook(job: Job, manifest: Manifest, target: str | None) -> None:
    """Run the command, or POST to the URL, with how the job ended.

    The hook comes from the settings of the process that ends the job, never from the job: write
    access to a record must not allow running commands here, and a hook's URL is often a secret.
    """
    facts = {
        "job": job.id,
        "output": job.output,
        "state": manifest.state,
        "reason": manifest.reason,
        "rows": manifest.totals.rows,
        "ok": manifest.totals.ok,
        "errors": manifest.totals.errors,
        "seconds": round(manifest.finished_s - manifest.submitted_s, 3),
    }
    _call(target, facts)


def run_refusal_hook(output: str, error: HeadraceError, seconds: float, target: str | None) -> None:
    """Run the hook for a job that was refused before it began: there is no job and no manifest."""
    facts = {
        "job": "",
        "output": output,
        "state": "refused",
        "reason": redact(str(error)),
        "error": error.error_type,
        "rows": 0,
        "ok": 0,
        "errors": 0,
        "seconds": round(seconds, 3),
    }
    _call(target, facts)


def _call(target: str | None, facts: dict[str, Any]) -> None:
    if not target:
        return
    try:
        if target.startswith(("http://", "https://")):
            _post(target, facts)
        else:
            _command(target, facts)
    except (OSError, subprocess.SubprocessError, urllib.error.URLError, ValueError) as error:
        log.error(
            "on_finish.failed",
            job=facts["job"],
            error_type=type(error).__name__,
            error_message=_status(error),
        )


def _status(error: Exception) -> str:
    """What came back, without the command or the URL, which may be secret."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit code {error.returncode}"
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no end within {_HOOK_S:.0f} s"
    return error.strerror or "" if isinstance(error, OSError) else ""


def _post(url: str, facts: dict[str, Any]) -> None:
    request = urllib.request.Request(
        url, json.dumps(facts).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=_HOOK_S) as reply:
        reply.read()


def _command(command: str, facts: dict[str, Any]) -> None:
    """Run the command with the facts as `HEADRACE_JOB`, `HEADRACE_STATE` … and JSON on stdin."""
    variables = {f"HEADRACE_FINISHED_{k.upper()}": str(v) for k, v in facts.items()}
    subprocess.run(
        shlex.split(command),
        input=json.dumps(facts).encode(),
        env=process_environment(**variables),
        timeout=_HOOK_S,
        stdout=STANDARD_ERROR,
        check=True,
    )
