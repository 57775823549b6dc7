"""Runs a training on a worker: the only chunk of its job, from the lease to the commit."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.coordination.attempts import SuspectRows, read_attempts
from headrace.process.logs import get_logger
from headrace.storage.uri import is_local_uri
from schemas.errors import DeviceLost, LeaseLost, Stopped
from schemas.names import output_layout
from schemas.records import part_schema
from schemas.records.chunk import Chunk
from schemas.records.training import SPLIT, TrainingResult, TrainingSpec
from workers.devices.device import device_inside, is_lost, resolve_dtype, set_threads
from workers.execution.attempt_ends import ChunkInProgress
from workers.execution.commit import Finished, commit
from workers.execution.handler import MessageHandler
from workers.execution.lease_keeper import ChunkControl
from workers.models.fetch import local_model
from workers.pipeline.read import read_windows
from workers.pipeline.rows import ChunkStats, RowError
from workers.pipeline.write import PartSink
from workers.training.checkpoints import CheckpointBook
from workers.training.loop import logits_of, train
from workers.training.loop_watch import Host, Progress
from workers.training.model.make import load_base, make_model, require_training_packages
from workers.training.outcome import (
    Attempt,
    calibrate,
    forget_published,
    load_published,
    part_rows,
    publish_model,
    result_of,
    take_published,
    write_model,
)
from workers.training.predictions import columns_of, predictions_of
from workers.training.rows.labelled_rows import LabelledRows, read_rows
from workers.training.scalars import ScalarWriter

log = get_logger(__name__)

WIDE = 256
"""Models of at least this width use several threads."""


@dataclass(slots=True)
class _Made:
    """The result of an attempt."""

    rows: LabelledRows
    logits: Any
    result: TrainingResult


class TrainingHandler(MessageHandler):
    """A `MessageHandler` for a job that trains: its chunk is one long piece of work."""

    def run(self) -> None:
        """Train, or continue a training. Raises StorageError; then the caller must release the leases."""
        if self._is_stopped():
            return
        for chunk, control in self._lease():
            if self._context.store.head(output_layout.part(chunk.number)) is not None:
                self._skipped(chunk.number, "done")
                self._leases.release(chunk.number)
                continue
            self._attempt(chunk, control)

    def _attempt(self, chunk: Chunk, control: ChunkControl) -> None:
        self._leases.loaded("")
        self._leases.say_busy()
        self._runtime.fault("leased")
        attempts = read_attempts(self._context.store, chunk.number)
        observe = self._trace(chunk, control, len(attempts) + 1)
        it = ChunkInProgress(chunk, control, observe, None, time.time())
        try:
            require_training_packages(training_of(self._context.job.spec.params))
            resolve_dtype(self._context.job.spec.dtype, self._runtime.identity.device)
            control.begin(observe.trace_id)
            self._say_begun(observe, chunk, len(attempts) + 1, SuspectRows())
            with self._scratch() as folder:
                self._train(it, folder, len(attempts) + 1)
        except Stopped as stop:
            self._ends.stopped([it], [], stop.reason)
        except LeaseLost as lost:
            self._ends.lease_lost(it, lost)
        except Exception as error:
            if is_lost(device_inside(self._runtime.identity.device)):
                self._ends.device_lost(DeviceLost(str(error)))
            self._ends.failed_at_work(it, error)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A scratch folder for this attempt only."""
        folder = self._context.store.scratch()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _train(self, it: ChunkInProgress, folder: Path, number: int) -> None:
        from transformers import set_seed

        spec = training_of(self._context.job.spec.params)
        store, attempt = self._context.store, it.control.mark.attempt
        set_seed(spec.seed)
        published = take_published(store, folder / "published")
        base, licence = self._base(spec)
        model, tokenizer, rows = self._load_all(it, spec, base)
        self._set_threads(model)
        if published is None:
            made = self._fit(it, folder, number, spec, model, tokenizer, rows)
            write_model(model, tokenizer, made.result, self._context.job, licence, folder / "model")
            it.control.check()
            self._runtime.fault("model")
            publish_model(store, attempt, folder / "model")
            self._runtime.fault("model_published")
            take_published(store, folder / "published")
        else:  # an earlier attempt was killed between publishing the model and writing its part
            made = self._again(it, folder, published, spec, tokenizer, rows)
        self._write_part(it, spec, made)
        forget_published(store)
        CheckpointBook(store, attempt, self._runtime.fault).forget_all()

    def _set_threads(self, model: Any) -> None:
        """Set the number of threads: one, if the model is small.

        On a busy machine two threads that wait for each other are very slow (measured: one took 42 s,
        two did not end in 600 s). So the weights do not depend on the number of cores either.
        """
        identity = self._runtime.identity
        is_small = int(getattr(model.config, "hidden_size", WIDE)) < WIDE
        set_threads(identity.device, 1 if is_small else identity.threads)

    def _base(self, spec: TrainingSpec) -> tuple[Path | None, str | None]:
        """The folder of the base with its licence; None for a model from scratch."""
        if spec.size is not None:
            return None, None
        job, runtime = self._context.job, self._runtime
        ref = job.spec.model
        folder = local_model(
            ref.uri, ref.revision, runtime.settings, runtime.open_store,
            allow_pickle=job.options.allow_pickle and runtime.settings.allow_pickle,
            trust_remote_code=False,
        )  # fmt: skip
        return folder, licence_of(folder)

    def _load_all(
        self, it: ChunkInProgress, spec: TrainingSpec, base: Path | None
    ) -> tuple[Any, Any, LabelledRows]:
        """Model, tokenizer and rows."""
        windows = list(self._windows_of(it))
        if base is None:
            texts = [
                text
                for window in windows
                for side, text in zip(window.carried[SPLIT].to_pylist(), window.texts, strict=True)
                if side == "train" and not isinstance(text, RowError)
            ]
            model, tokenizer = make_model(texts, spec)
        else:
            model, tokenizer = load_base(base, spec)
        with it.observe("tokenize", rows=it.chunk.rows):
            rows = read_rows(windows, tokenizer, spec, SPLIT, it.control.check)
        return model, tokenizer, rows

    def _windows_of(self, it: ChunkInProgress) -> Iterator[Any]:
        job, runtime = self._context.job, self._runtime
        is_local = is_local_uri(it.chunk.pieces[0].file.uri)
        with it.control.disk() if is_local else nullcontext():
            open_file, types = runtime.inputs.unchanged, self._context.plan.types
            yield from read_windows(open_file, it.chunk, job.spec, it.observe, types=types)

    def _fit(
        self, it: ChunkInProgress, folder: Path, number: int, spec: TrainingSpec, model: Any,
        tokenizer: Any, rows: LabelledRows,
    ) -> _Made:  # fmt: skip
        store, identity = self._context.store, self._runtime.identity
        scalars = ScalarWriter(store, it.control.mark.attempt, folder / "tensorboard")
        host = self._host(it, folder, scalars)
        pad = (tokenizer.pad_token_id, tokenizer.pad_token_type_id)
        with it.observe("forward", rows=len(rows.train)) as stage, scalars:
            trained = train(model, rows, pad, spec, host)
            stage.add(tokens=trained.tokens, padding_tokens=trained.padding)
        temperature = calibrate(model, trained, rows, spec)
        attempt = Attempt(
            it.control.mark.attempt, number, identity.device, data_digest_of(it.chunk)
        )
        result = result_of(
            model, trained, rows, temperature, self._context.job, spec, attempt, sides_of(rows)
        )
        log.info(
            "training.ended", job=self._context.job.id, step=trained.steps, seconds=trained.seconds
        )
        return _Made(rows, trained.logits, result)

    def _host(self, it: ChunkInProgress, folder: Path, scalars: ScalarWriter | None) -> Host:
        device = device_inside(self._runtime.identity.device)
        control, drain = it.control, self._runtime.drain
        book = CheckpointBook(self._context.store, control.mark.attempt, self._runtime.fault)
        total = it.chunk.rows

        def show(now: Progress) -> None:
            control.progressed(min(total, total * now.step // max(1, now.of)), words_of(now))

        def stop(reason: str) -> None:
            raise Stopped(reason)

        def stop_reason() -> str | None:
            self._runtime.fault("trained")
            if control.lost:
                control.check()  # raises LeaseLost
            return self._leases.stop_reason()

        return Host(
            folder=folder, device=device, bf16=self._context.job.spec.dtype == "bfloat16",
            book=book, stop_reason=stop_reason, stop=stop, show=show,
            write_scalars=scalars.write if scalars else lambda step, numbers: None,
            seconds_left=lambda: drain.deadline_at - time.time(),
            committed=control.advanced,
        )  # fmt: skip

    def _again(
        self, it: ChunkInProgress, folder: Path, published: TrainingResult, spec: TrainingSpec,
        tokenizer: Any, rows: LabelledRows,
    ) -> _Made:  # fmt: skip
        """Predictions by the published model, if its part was not written yet."""
        model = load_published(self._context.store, folder, spec)
        pad = (tokenizer.pad_token_id, tokenizer.pad_token_type_id)
        host = self._host(it, folder, None)
        return _Made(rows, logits_of(model, rows, pad, spec, host), published)

    def _write_part(self, it: ChunkInProgress, spec: TrainingSpec, made: _Made) -> None:
        """Write a row for each labelled row, and commit the chunk."""
        store, job = self._context.store, self._context.job
        sink = PartSink(store, job, it.chunk, it.control.mark.attempt)
        stats = ChunkStats(batches=made.result.steps, padding_tokens=made.result.padding)
        try:
            schema, columns = None, columns_of(spec)
            predictions = predictions_of(made.rows, made.logits, spec)
            for window in made.rows.windows:
                schema = schema or part_schema.part_schema(window.carried.schema, columns)
                sink.write(
                    part_rows(
                        window, window.start, made.rows, predictions, spec, stats, schema,
                        it.observe.trace_id,
                    )
                )  # fmt: skip
            self._runtime.fault("forwarded")
            it.control.check()
        except BaseException:
            sink.discard()
            raise
        finished = Finished(it.chunk, it.control, it.observe, sink, stats, it.started_at)
        commit(finished, self._context, self._runtime, self._leases, self._ends.failed)


def data_digest_of(chunk: Chunk) -> str:
    """The digest of the labelled rows, which is the name of their file."""
    return Path(chunk.pieces[0].file.uri).stem


def training_of(params: Mapping[str, Any]) -> TrainingSpec:
    """The training that a job's record describes."""
    return TrainingSpec.model_validate(params)


def sides_of(rows: LabelledRows) -> dict[str, int]:
    """Rows by their side of the split."""
    found: Counter[str] = Counter()
    for window in rows.windows:
        found.update(window.carried[SPLIT].to_pylist())
    return dict(sorted(found.items()))


def words_of(now: Progress) -> str:
    """A training's progress as a short text, for the terminal."""
    parts = [f"epoch {now.epoch:.1f}"]
    if now.loss is not None:
        parts.append(f"loss {now.loss:.3f}")
    if now.best is not None:
        parts.append(f"best {now.best:.3f}")
    if now.rows_per_s:
        parts.append(f"{now.rows_per_s:,.0f} rows/s")
    return " · ".join(parts)


def licence_of(folder: Path) -> str | None:
    """The licence that a model's card states in its first lines."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(errors="replace").splitlines()[:60]
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        if line.startswith("license:"):
            return line.partition(":")[2].strip() or None
    return None
