"""`headrace demo`: a corpus, a small model trained here, and the real job on both."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from headrace.settings import cache_folder
from producers.commands.run import run_job
from producers.commands.session import open_session
from producers.commands.training.train import open_training, run_training, say_result
from producers.demo.corpus import (
    CORPUS_ROWS,
    CORPUS_SEED,
    Review,
    labelled,
    rows,
    write_corpus,
)
from producers.demo.score import accuracy
from producers.terminal.console import Terminal, command
from producers.training.asked import Asked
from schemas.errors import ExitCode
from schemas.records.training import Size

LEARNING = {"epochs": 1.0, "batch_tokens": 768, "early_stopping": 0}
"""Measured: one pass is enough, and larger batches make too few steps of the same rows."""


def run_demo(folder: Path | None, workers: int | None) -> int:
    """Make what is missing, run the job, print its accuracy; returns the exit code."""
    terminal = Terminal()
    home = (folder or cache_folder() / "demo").resolve()
    corpus, training = home / "reviews.parquet", home / "short-reviews.parquet"
    reviews = rows(CORPUS_SEED, CORPUS_ROWS)
    _write_once(terminal, corpus, reviews, f"a corpus of {CORPUS_ROWS:,} reviews")
    _write_once(terminal, training, labelled(), "labelled reviews to learn from")
    code, model = _train(terminal, training, home / "training")
    if code != ExitCode.OK:
        return code
    results = home / "scored"
    options = {
        "task": "text-classification",
        "model": str(model),
        "id_column": "id",
        "columns": "stars,product",
    }
    code = run_shown(terminal, corpus, results, options, workers, chunk_rows=2_000)
    if code == ExitCode.OK:
        _show_accuracy(terminal, results, corpus)
    return code


def run_shown(
    terminal: Terminal,
    corpus: Path,
    results: Path,
    options: Mapping[str, str],
    workers: int | None,
    *,
    chunk_rows: int,
) -> int:
    """Show the command, then run its job, from nothing; returns the exit code."""
    shutil.rmtree(results, ignore_errors=True)
    words = [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", value)]
    shown = command("run", str(corpus), "--output", str(results), *words)
    terminal.note(("$", "bold"), f" {shown}")
    session = open_session({**options, "workers": workers or 2, "chunk_rows": chunk_rows})
    return run_job(session, [str(corpus)], str(results))


def _write_once(terminal: Terminal, path: Path, reviews: Iterable[Review], what: str) -> None:
    if path.exists():
        return
    started = time.monotonic()
    write_corpus(path, reviews)
    terminal.note(f"wrote {what} in {time.monotonic() - started:.1f} s: {path}")


def _train(terminal: Terminal, training: Path, output: Path) -> tuple[int, str]:
    """The exit code of the training, and its model; one of an earlier demo is kept."""
    words = [
        w for name, value in LEARNING.items() for w in (f"--{name.replace('_', '-')}", f"{value:g}")
    ]
    shown = command(
        "train",
        str(training),
        "--from-scratch",
        "--output",
        str(output),
        "--id-column",
        "id",
        *words,
    )
    terminal.note(("$", "bold"), f" {shown}")
    asked = Asked("label", size=Size.model_validate({}), hyperparameters=LEARNING)
    session, inputs, where = open_training(
        {"id_column": "id"}, [str(training)], str(output), asked, as_json=False
    )
    ended = run_training(session, inputs, where, asked, fleet=False, wait=True)
    say_result(session, ended)
    return ended.code, ended.model


def _spelled(command: str) -> str:
    """What to type for a command of this environment: its name, or its path if it is not on PATH."""
    if shutil.which(command) == str(Path(sys.executable).parent / command):
        return command
    return os.path.relpath(Path(sys.executable).parent / command)


def _show_accuracy(terminal: Terminal, results: Path, corpus: Path) -> None:
    right, total = accuracy(results, corpus)

    say = terminal.say
    say(
        f"  accuracy {right / max(1, total):.4f} ({right:,} of {total:,}) against the generator's labels, "
        "some of which are noise"
    )
    headrace, python = _spelled("headrace"), _spelled(Path(sys.executable).name)
    say("")
    say("Look at it:")
    say(
        f"  {python} -c \"import pyarrow.dataset as d; print(d.dataset('{results}/data').head(5).to_pylist())\""
    )
    say(f"  {shlex.quote(headrace)} verify {shlex.quote(str(results))}")
    say("Then your own:")
    say(
        f"  {headrace} run YOUR.parquet --output OUT --task text-classification"
        " --model FOLDER_OR_HUB_ID"
    )
