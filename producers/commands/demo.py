"""`headrace demo`: a corpus, a small model trained here, and the real job on both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from headrace.settings import cache_folder
from producers.commands.run import run_job
from producers.demo.corpus import (
    CORPUS_ROWS,
    CORPUS_SEED,
    TRAINING_ROWS,
    TRAINING_SEED,
    rows,
    write_corpus,
)
from producers.demo.score import accuracy
from producers.terminal.context import err, out
from schemas.errors import ExitCode, HeadraceError, MissingExtra


def run_demo(folder: Path | None, workers: int | None) -> int:
    """Make what is missing, run the job, say how good it was; returns the exit code."""
    home = (folder or cache_folder() / "demo").resolve()
    corpus, training, model = home / "reviews.parquet", home / "labelled.parquet", home / "model"
    _write_once(corpus, CORPUS_SEED, CORPUS_ROWS, f"a corpus of {CORPUS_ROWS:,} reviews")
    if not (model / "config.json").exists():  # it appears whole or not at all
        _write_once(
            training,
            TRAINING_SEED,
            TRAINING_ROWS,
            f"{TRAINING_ROWS:,} labelled reviews to learn from",
        )
        _train(training, model)
    else:
        err.print(
            f"[dim]the model of an earlier demo is kept:[/] {model}",
            highlight=False,
            soft_wrap=True,
        )
    results = home / "scored"
    shutil.rmtree(results, ignore_errors=True)
    shown = f"headrace run {corpus} --output {results} --task text-classification --model {model}"
    shown += " --id-column id --columns stars,product"
    err.print(f"[bold]$[/] {shown}", highlight=False, soft_wrap=True)
    flags: dict[str, Any] = {
        "task": "text-classification", "model": str(model), "id_column": "id",
        "columns": "stars,product", "workers": workers or 2, "chunk_rows": 2_000,
    }  # fmt: skip
    code = run_job([str(corpus)], str(results), flags, as_json=False)
    if code == ExitCode.OK:
        _tell(results, corpus)
    return code


def _write_once(path: Path, seed: int, count: int, what: str) -> None:
    if path.exists():
        return
    started = time.monotonic()
    write_corpus(path, rows(seed, count))
    err.print(
        f"wrote {what} in {time.monotonic() - started:.1f} s: {path}",
        highlight=False,
        soft_wrap=True,
    )


def _train(training: Path, model: Path) -> None:
    """Training needs torch, so it is the worker's side that does it."""
    door = Path(sys.executable).parent / "headrace-worker"
    if not door.exists():
        raise MissingExtra(
            "headrace-worker is not installed here: pip install 'headrace[cpu,embedded]'"
        )
    err.print("training a small BERT on them (about a minute on two cores, once)", highlight=False)
    done = subprocess.run([str(door), "train-demo", str(training), str(model)], check=False)
    if done.returncode != 0:
        raise HeadraceError(f"training the demo's model failed with exit code {done.returncode}")


def _spelled(command: str) -> str:
    """What to type for a command of this environment: its name, or its path where that is needed."""
    if shutil.which(command) == str(Path(sys.executable).parent / command):
        return command
    return os.path.relpath(Path(sys.executable).parent / command)


def _tell(results: Path, corpus: Path) -> None:
    right, total = accuracy(results, corpus)

    def say(line: str) -> None:
        out.print(line, highlight=False, soft_wrap=True)

    say(
        f"  accuracy {right / max(1, total):.4f} ({right:,} of {total:,}) against the generator's labels, "
        "some of which are noise"
    )
    headrace, python = _spelled("headrace"), _spelled(Path(sys.executable).name)
    say("\nLook at it:")
    say(
        f"  {python} -c \"import pyarrow.dataset as d; print(d.dataset('{results}/data').head(5).to_pylist())\""
    )
    say(f"  {headrace} verify {results}")
    say("Then your own:")
    say(
        f"  {headrace} run YOUR.parquet --output OUT --task text-classification"
        " --model FOLDER_OR_HUB_ID"
    )
