"""`headrace demo`: a corpus, a small model trained here, and the real job on both."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from headrace.settings import cache_folder
from producers.commands.run import run_job
from producers.commands.session import open_session
from producers.demo.corpus import (
    CORPUS_ROWS,
    CORPUS_SEED,
    TRAINING_ROWS,
    TRAINING_SEED,
    rows,
    write_corpus,
)
from producers.demo.score import accuracy
from producers.terminal.console import Terminal, command
from schemas.errors import ExitCode, HeadraceError, MissingExtra


def run_demo(folder: Path | None, workers: int | None) -> int:
    """Make what is missing, run the job, print its accuracy; returns the exit code."""
    terminal = Terminal()
    home = (folder or cache_folder() / "demo").resolve()
    corpus, training, model = home / "reviews.parquet", home / "labelled.parquet", home / "model"
    _write_once(terminal, corpus, CORPUS_SEED, CORPUS_ROWS, f"a corpus of {CORPUS_ROWS:,} reviews")
    if not (model / "config.json").exists():  # the folder appears complete or not at all
        _write_once(
            terminal,
            training,
            TRAINING_SEED,
            TRAINING_ROWS,
            f"{TRAINING_ROWS:,} labelled reviews to learn from",
        )
        _train(terminal, training, model)
    else:
        terminal.note(("the model of an earlier demo is kept:", "dim"), f" {model}")
    results = home / "scored"
    shutil.rmtree(results, ignore_errors=True)
    options = {
        "task": "text-classification",
        "model": str(model),
        "id_column": "id",
        "columns": "stars,product",
    }
    words = [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", value)]
    shown = command("run", str(corpus), "--output", str(results), *words)
    terminal.note(("$", "bold"), f" {shown}")
    session = open_session({**options, "workers": workers or 2, "chunk_rows": 2_000})
    code = run_job(session, [str(corpus)], str(results))
    if code == ExitCode.OK:
        _show_accuracy(terminal, results, corpus)
    return code


def _write_once(terminal: Terminal, path: Path, seed: int, count: int, what: str) -> None:
    if path.exists():
        return
    started = time.monotonic()
    write_corpus(path, rows(seed, count))
    terminal.note(f"wrote {what} in {time.monotonic() - started:.1f} s: {path}")


def _train(terminal: Terminal, training: Path, model: Path) -> None:
    """Train in the worker's command, since training needs torch."""
    executable = Path(sys.executable).parent / "headrace-worker"
    if not executable.exists():
        raise MissingExtra(
            "headrace-worker is not installed here: pip install 'headrace[cpu,embedded]'"
        )
    terminal.note("training a small BERT on them (about a minute on two cores, once)")
    done = subprocess.run([str(executable), "train-demo", str(training), str(model)], check=False)
    if done.returncode != 0:
        raise HeadraceError(f"training the demo's model failed with exit code {done.returncode}")


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
