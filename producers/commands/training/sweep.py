"""`headrace train --sweep`: a training for each point, a table of them, and the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from headrace.process.numbers import duration
from headrace.storage.open import open_store
from producers.commands.models import version_line
from producers.commands.session import Session
from producers.commands.training.train import (
    Ended,
    open_training,
    register_training,
    run_training,
    say_result,
)
from producers.terminal.console import columns, command, plain
from producers.training.asked import Asked, check_options
from producers.training.sweep import Point, as_record, best_of, points_of, score_of
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout
from schemas.records.training import BEST_BY, TrainingResult


def sweep_models(
    flags: dict[str, Any],
    labelled: Sequence[str],
    output: str,
    asked: Asked,
    sweep: str,
    *,
    register: str | None,
    fleet: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Train at each point, one after the other, or side by side on a fleet; returns the exit code.

    A point that has ended is not trained again, so a sweep that was killed goes on.
    """
    points = points_of(sweep)
    session, inputs, output = open_training(flags, labelled, output, asked, as_json=as_json)
    if fleet and register and not wait:
        raise ConfigError("--register needs the finished models: add --wait")
    for point in points:
        check_options(session.settings, point.of(asked))
    if open_store(output, session.settings).head(output_layout.JOB) is not None:
        raise ConfigError(f"{output} holds a job: the points of a sweep need a folder of their own")
    if fleet:
        submitted = [
            _train(session, inputs, output, point, asked, fleet=True, wait=False)
            for point in points
        ]
        if not wait:
            return _show_submitted(session, points, submitted)
    ended: list[Ended] = []
    for number, point in enumerate(points, 1):
        session.terminal.note(f"point {number} of {len(points)}: {point.words}")
        ended.append(_train(session, inputs, output, point, asked, fleet=fleet, wait=True))
        if ended[-1].code == ExitCode.INTERRUPTED:
            session.terminal.note("the same command goes on with this point")
            return ExitCode.INTERRUPTED
        if not as_json:
            say_result(session, ended[-1])
    return _end(session, output, points, ended, register)


def _train(
    session: Session, inputs: Sequence[str], output: str, point: Point, asked: Asked, *, fleet: bool,
    wait: bool,
) -> Ended:  # fmt: skip
    below = f"{output.rstrip('/')}/{point.folder}"
    return run_training(session, inputs, below, point.of(asked), fleet=fleet, wait=wait)


def _show_submitted(session: Session, points: Sequence[Point], jobs: Sequence[Ended]) -> int:
    """Where each point is computed; a job that has ended has its exit code."""
    if session.as_json:
        session.terminal.print_json({
            "points": [
                {"settings": dict(point.values), "id": one.job.id, "output": one.job.output}
                for point, one in zip(points, jobs, strict=True)
            ]
        })  # fmt: skip
    else:
        session.terminal.note("the same command with --wait shows the scores when all have ended")
    return next((one.code for one in jobs if one.code != ExitCode.OK), ExitCode.OK)


def _end(
    session: Session, output: str, points: Sequence[Point], ended: Sequence[Ended], name: str | None
) -> int:
    """Keep the table and show it; register the best if that was asked for."""
    results = [one.result for one in ended]
    best = best_of(results)
    record: dict[str, Any] = {
        "points": [
            as_record(point, result, one.model, one.code)
            for point, result, one in zip(points, results, ended, strict=True)
        ],
        "best": best,
    }  # fmt: skip
    store = open_store(output, session.settings)
    store.replace(output_layout.SWEEP, json.dumps(record, indent=1).encode() + b"\n")
    version = None
    found = None if best is None else results[best]
    if name is not None and best is not None and found is not None:
        version = register_training(session, ended[best], found, name)
        record["version"] = version.model_dump(mode="json")
    if session.as_json:
        session.terminal.print_json(record)
    else:
        _show(session, points, ended, results, best)
        if version is not None:
            session.terminal.say(version_line(version))
    return next((one.code for one in ended if one.code != ExitCode.OK), ExitCode.OK)


def _show(
    session: Session, points: Sequence[Point], ended: Sequence[Ended],
    results: Sequence[TrainingResult | None], best: int | None,
) -> None:  # fmt: skip
    known = next((r for r in results if r is not None), None)
    score = "score" if known is None else BEST_BY[known.spec.problem].replace("_", " ")
    table = columns(*points[0].values, score, "epochs", "time", "")
    for at, (point, result) in enumerate(zip(points, results, strict=True)):
        told = ("failed", "–", "–") if result is None else (
            f"{score_of(result):.4f}" if result.scores else "–", f"{result.epochs:g}",
            duration(result.seconds),
        )  # fmt: skip
        row = (*(f"{v:g}" for v in point.values.values()), *told, "best" if at == best else "")
        table.add_row(*map(plain, row))
    session.terminal.show(table)
    if best is not None:
        session.terminal.say(f"  best    {points[best].words}")
        session.terminal.say(f"  model   {ended[best].model}")
        words = ("models", "register", "NAME", ended[best].model)
        session.terminal.say(f"  next    {command(*words)}")
