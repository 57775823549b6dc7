"""From settings to a job: the corpus read, the model pinned, and a spec whose digest is the id."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headrace.formats.opener import InputOpener, OpenFile
from headrace.models.named import version_of
from headrace.settings import Settings
from headrace.storage.kept_objects import KeptObjects
from headrace.storage.store import Store
from headrace.tasks.catalog import task_names, task_spec
from headrace.tasks.generation.endpoint import check_endpoint
from headrace.tasks.generation.vllm import check_vllm
from producers.capacity.device_hint import DeviceHint
from producers.capacity.speed_guess import tokens_per_s
from producers.models.info import ModelInfo
from producers.models.reference import model_at, resolve_model
from producers.planning.chunking import (
    ChunkPlan,
    target_chunk,
)
from producers.planning.contents import hash_contents
from producers.planning.corpus import (
    Corpus,
    Progress,
    read_corpus,
)
from producers.planning.discovery import covers, discover, discover_planned
from producers.planning.id_check import check_ids
from producers.planning.passed_over import PassedOver
from producers.planning.tables import table_reader
from producers.submission.generation import generation_of, work_per_token
from producers.submission.reuse import reusable
from producers.submission.spec import columns_wanted, options_of, spec_of, task_params, text_source
from schemas.errors import ConfigError
from schemas.records.chunk import InputFile
from schemas.records.engine import ENDPOINT
from schemas.records.job import (
    Column,
    Inputs,
    Options,
    Spec,
    job_id,
)
from schemas.records.text_source import shown


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job that is ready to be created; nothing is written yet."""

    output: str
    spec: Spec
    options: Options
    inputs: Inputs
    corpus: Corpus
    model: ModelInfo
    plan: ChunkPlan
    tokens_per_s: float
    """Speed of one worker, a guess."""
    warnings: tuple[str, ...] = field(default=())
    contents: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the bytes of each file, by URI; of small corpora on a disk."""

    @property
    def id(self) -> str:
        return job_id(self.spec)

    @property
    def text_type(self) -> str:
        return self.corpus.types.text

    @property
    def id_type(self) -> str:
        return self.corpus.types.id

    @property
    def carried(self) -> tuple[Column, ...]:
        return self.corpus.types.carried


def prepare(
    settings: Settings,
    inputs: Sequence[str],
    output: str,
    *,
    device_hint: DeviceHint,
    workers_hint: int,
    planned: Sequence[InputFile] | None = None,
    extra_params: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PreparedJob:
    """Find and check everything that decides a job; reads footers and the model's files.

    Paths have their dates filled in already. `planned` are the files of an earlier job's plan: these
    are taken, and `inputs` only names them. `extra_params` go to the task beside those from the
    settings (the fake task's faults).

    Raises:
        ConfigError: settings that contradict one another, an unknown task, an output inside
            the input.
        InputNotFound, InputUnreadable, SchemaMismatch, ColumnError: see `read_corpus`.
        ModelError, MissingExtra: see `resolve_model`.
        ModelRegistryError: see `version_of`.
        UriNotAllowed: an input, the model or the output outside the allowed prefixes.
    """
    from headrace.storage.open import open_store

    opened: Callable[[str], Store] = partial(open_store, settings=settings)
    output_uri = opened(output).uri
    _check(settings, inputs, output_uri)
    params = task_params(settings, extra_params or {})
    wanted = columns_wanted(settings, params)
    named = version_of(settings)
    model = _resolved(settings, named, params, opened)
    passed = PassedOver()
    found = (
        discover(
            inputs,
            opened,
            only=settings.pattern,
            literal=settings.literal,
            allow_empty=settings.allow_empty,
            in_part=settings.limit is not None,
            passed=passed,
            read_table=table_reader(settings),
        )
        if planned is None
        else discover_planned(planned, opened)
    )
    kept = KeptObjects()
    corpus = read_corpus(
        tuple(inputs),
        found,
        wanted,
        settings.limit,
        progress,
        allow_empty=settings.allow_empty,
        kept=kept,
    )
    speed = tokens_per_s(
        model.parameters, model.embeddings, device_hint, task_spec(settings.task).needs_model
    )
    spec = spec_of(settings, corpus, model, device_hint, params)
    generation = generation_of(settings.task, params, model)
    check_vllm(settings.engine, settings.task, generation)
    options = options_of(settings)
    if settings.reuse is not None:
        earlier, digest = reusable(settings.reuse, spec, opened)
        spec = spec.model_copy(update={"reuse": digest})
        options = options.model_copy(update={"reuse_output": earlier})
    target = target_chunk(
        corpus.rows,
        corpus.text_bytes,
        workers=workers_hint,
        tokens_per_s=speed
        / task_spec(settings.task).items_per_row(params)
        / work_per_token(generation, corpus.text_bytes, corpus.rows),
        chunk_rows=settings.chunk_rows,
        chunk_bytes=settings.chunk_bytes,
    )
    return PreparedJob(
        output=output_uri,
        spec=spec,
        options=options,
        inputs=Inputs(
            patterns=tuple(inputs),
            digest=corpus.digest,
            files=corpus.file_count,
            rows=corpus.rows,
            bytes=corpus.file_bytes,
        ),
        corpus=corpus,
        model=model,
        plan=ChunkPlan(corpus.files, target, spec.limit),
        tokens_per_s=speed,
        contents=hash_contents(corpus, opened),
        warnings=(
            *model.warnings,
            *passed.warnings(),
            *_warnings(settings, corpus, InputOpener(opened, kept)),
        ),
    )


def masked_command(argv: Sequence[str]) -> str:
    """The command line without broker, credentials and hooks, so that it may be stored."""
    shown: list[str] = []
    hide = False
    for word in argv:
        flag, equals, _ = word.partition("=")
        secret = flag in ("--broker", "--broker-url", "--on-finish")
        if hide:
            shown.append("***")
        elif secret and equals:
            shown.append(f"{flag}=***")
        else:
            shown.append(re.sub(r"(\w+://)[^/@\s]*@", r"\1***@", word))
        hide = secret and not equals
    return shlex.join(shown)


def _check(settings: Settings, inputs: Sequence[str], output: str) -> None:
    if not inputs:
        raise ConfigError("no INPUT: give a file, a folder, a glob or s3://bucket/prefix")
    known = task_names()
    if known and settings.task not in known:
        raise ConfigError(f"--task {settings.task} is not known; tasks: {', '.join(known)}")
    for pattern in inputs:
        if covers(pattern, f"{output}/data/part-00000.parquet", literal=settings.literal):
            raise ConfigError(
                f"the output {output} is inside the input {pattern}: its parts would be input of "
                "the next job; choose a folder elsewhere"
            )


def _warnings(settings: Settings, corpus: Corpus, open_file: OpenFile) -> Iterator[str]:
    if not corpus.rows:
        yield "no rows in the input: the job ends at once (--allow-empty)"
    elif corpus.empty_files:
        yield f"{corpus.empty_files:,} input files have no rows"
    yield from corpus.overridden
    if len(corpus.formats) > 1:
        yield f"the input is mixed, {' and '.join(corpus.formats)}: is every row in it once?"
    if "binary" in corpus.types.text:
        yield f"{shown(text_source(settings))!r} is {corpus.types.text}: its bytes are read as UTF-8"
    if settings.id_column:
        report = check_ids(
            corpus.files,
            settings.id_column,
            corpus.rows,
            open_file,
            settings.limit,
            types=corpus.types.planned,
        )
        yield from report.warnings(settings.id_column)


def _resolved(
    settings: Settings,
    named: Any,
    params: Mapping[str, Any],
    opened: Callable[[str], Store],
) -> ModelInfo:
    """The job's model. Raises: see `resolve_model`."""
    if settings.engine == ENDPOINT:
        check_endpoint(settings.engine, settings.task, params)
        return model_at(settings.model, params["endpoint"], settings)
    return resolve_model(
        settings.model if named is None else named.model.uri,
        settings.revision if named is None else named.model.revision or None,
        settings.task,
        opened,
        max_length=settings.max_length,
        allow_pickle=settings.allow_pickle,
        trust_remote_code=settings.trust_remote_code,
        params=params,
    )
