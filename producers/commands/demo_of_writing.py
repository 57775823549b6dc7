"""`headrace demo --generate`: notes, a small model that learns to write, and the real job."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from headrace.settings import cache_folder
from producers.commands.demo import run_shown
from producers.demo.diary import (
    CORPUS_ROWS,
    CORPUS_SEED,
    TRAINING_ROWS,
    TRAINING_SEED,
    write_notes,
)
from producers.demo.score import equal_texts
from producers.local.worker_command import find_worker_executable
from producers.terminal.console import Terminal
from schemas.errors import ExitCode


def run_writing_demo(folder: Path | None, workers: int | None) -> int:
    """Make what is missing, run the job, print how many texts are right; returns the exit code."""
    terminal = Terminal()
    home = (folder or cache_folder() / "demo-generate").resolve()
    corpus, model, results = home / "notes.parquet", home / "writer", home / "written"
    if not corpus.exists():
        write_notes(corpus, CORPUS_SEED, CORPUS_ROWS)
    if not model.exists():
        code = _train(terminal, home / "training.parquet", model)
        if code != ExitCode.OK:
            return code
    options = {
        "task": "text2text-generation",
        "model": str(model),
        "id_column": "id",
        "columns": "entry",
    }
    code = run_shown(terminal, corpus, results, options, workers, chunk_rows=CORPUS_ROWS // 4)
    if code == ExitCode.OK:
        _show_accuracy(terminal, results)
    return code


def _train(terminal: Terminal, training: Path, model: Path) -> int:
    """The exit code of the training, in a process of its own: nothing here imports torch."""
    terminal.note(f"training a small T5 on {TRAINING_ROWS:,} notes, about a minute: {model}")
    started = time.monotonic()
    write_notes(training, TRAINING_SEED, TRAINING_ROWS)
    worker = [find_worker_executable(), "train-writer", str(training), str(model)]
    with subprocess.Popen(worker, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            terminal.note(f"  {line.strip()}")
    terminal.note(f"trained in {time.monotonic() - started:.0f} s")
    return process.returncode


def _show_accuracy(terminal: Terminal, results: Path) -> None:
    right, total = equal_texts(results, "entry")
    terminal.say(
        f"  right   {right / max(1, total):.4f} ({right:,} of {total:,}) diary entries are, letter by"
        " letter, what the generator meant"
    )
    example = next(iter(_examples(results)), None)
    if example is not None:
        terminal.say(f"  such as {example}")


def _examples(results: Path) -> list[str]:
    import pyarrow.parquet as pq

    (first, *_) = sorted((results / "data").glob("part-*.parquet"))
    rows = pq.ParquetFile(first).read(["generated_text"], use_threads=False).to_pylist()
    return [str(row["generated_text"]) for row in rows[:1]]
