"""Estimates a job: tokens from a sample, chunks, time, price. Queues nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from headrace.assumptions import BYTES_PER_TOKEN
from headrace.formats.base import Span
from headrace.formats.opener import OpenFile
from headrace.formats.text_column import as_bytes, plain_column
from headrace.tasks.catalog import task_spec
from headrace.tasks.length_limit import LengthLimit
from producers.planning.chunking import FileRows, cut
from producers.submission.generation import (
    generation_of,
    new_tokens,
    read_tokens,
    shown_settings,
)
from producers.submission.prepare import PreparedJob
from schemas.records.job import Predicted
from schemas.records.model_key import engine_name
from schemas.records.text_source import shown

SAMPLE_ROWS = 2_000  # chosen: the mean of skewed lengths is then accurate to about 5 %
SAMPLE_PLACES = 8  # chosen: corpora are often sorted by source or day
SAMPLE_TEXT_BYTES = 20_000
"""Of a text that are tokenized: what follows is taken to have as many tokens a byte. Chosen: a row of
50 MB stays cheap."""
GUESSED_MAX_LENGTH = (
    512  # chosen: the limit of most encoders, for a hub model whose files are not here
)
UNKNOWN_TEXTS = 200  # chosen: the share of unknown tokens shows in far fewer
MOST_UNKNOWN = 0.5  # chosen: above this the model cannot have read the text
BINS = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class Bin:
    """Number of sampled rows with `low` up to, not including, `high` tokens; the last bin has no `high`."""

    low: int
    high: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Lengths in a sample, before truncation."""

    rows: int
    exact: bool
    """By the model's own tokenizer; else four bytes per token."""
    mean: float
    median: int
    p95: int
    most: int
    truncated_share: float
    mean_scored: float
    """After truncation."""
    bins: tuple[Bin, ...]
    unknown_share: float = 0.0
    """Share of tokens that the model's tokenizer does not know, 0 to 1; 0 if it was not used."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `headrace plan` says."""

    job: str
    output: str
    task: str
    model: str
    model_revision: str
    parameters: int | None
    dtype: str
    max_length: int
    max_length_from: str
    """Where the limit comes from: an option, or a name in a file of the model."""
    files: int
    rows: int
    file_bytes: int
    text_bytes: int
    chunks: int
    chunk_rows: int
    """Rows of the largest chunk."""
    tokens: TokenCounts
    tokens_total: int
    tokens_per_s: float
    """Of one worker."""
    measured: bool
    """False: the speed is a guess from the model's size."""
    workers: int
    seconds: float
    worker_hours: float
    cost: float | None
    warnings: tuple[str, ...]
    engine: str = ""
    """What runs the model."""
    on_long: str = ""
    """What is done with texts that are too long; empty: they are cut."""
    generation: Mapping[str, str] = field(default_factory=dict)
    """Of a job that generates: each setting with what says it."""

    def predicted(self, price_per_hour: float | None) -> Predicted:
        """The part of the estimate that the job's record keeps, to compare with the result."""
        return Predicted(
            tokens=self.tokens_total,
            exact_tokens=self.tokens.exact,
            tokens_per_s=self.tokens_per_s,
            measured=self.measured,
            workers=self.workers,
            seconds=self.seconds,
            worker_hours=self.worker_hours,
            price_per_hour=price_per_hour,
            cost=self.cost,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    prepared: PreparedJob,
    open_file: OpenFile,
    *,
    workers: int,
    price_per_hour: float | None = None,
    measured_tokens_per_s: float | None = None,
    sample_rows: int = SAMPLE_ROWS,
) -> Estimate:
    """The estimate of a prepared job; reads a sample of its text, from a few places.

    A speed measured by earlier jobs on this machine takes precedence over the guess.

    Raises:
        InputUnreadable, StorageError: the sample cannot be read.
    """
    spec, corpus = prepared.spec, prepared.corpus
    files, count = _within(corpus.files, corpus.file_count, spec.limit)
    texts = list(sample_texts(files, count, spec.text_source, open_file, sample_rows))
    counted = count_tokens([text.start for text in texts], prepared.model.folder)
    lengths = [text.tokens(n) for text, n in zip(texts, counted.lengths, strict=True)]
    max_length, said_by = max_length_of(spec.max_length, prepared.model.limit)
    whole = task_spec(spec.task).reads_whole_text(spec.params)
    tokens = replace(
        summarise(lengths, counted.exact, sys.maxsize if whole else max_length),
        unknown_share=counted.unknown_share,
    )
    chunks, largest = _chunks(prepared)
    task = task_spec(spec.task)
    beside = task.item_bytes(spec.params) / BYTES_PER_TOKEN
    item = min(max_length, tokens.mean_scored + beside) if beside else tokens.mean_scored
    shape = task.window_shape(spec.params, max_length, spec.max_length is not None)
    if shape is not None and lengths:
        item = fmean(shape.scored(n, BYTES_PER_TOKEN) for n in lengths)
    generation = generation_of(spec.task, spec.params, prepared.model)
    total = round(item * corpus.rows * task.items_per_row(spec.params))
    generated = round(new_tokens(generation) * corpus.rows)
    speed = measured_tokens_per_s or prepared.tokens_per_s
    # a measured speed is one of read and generated tokens together
    more = generated if measured_tokens_per_s else read_tokens(generation) * corpus.rows
    work = total + more
    seconds = work / (speed * max(1, min(workers, chunks)))
    hours = work / speed / 3600
    return Estimate(
        job=prepared.id,
        output=prepared.output,
        task=spec.task,
        model=spec.model.uri,
        model_revision=spec.model.revision,
        parameters=prepared.model.parameters,
        dtype=spec.dtype,
        max_length=max_length,
        max_length_from=said_by,
        files=corpus.file_count,
        rows=corpus.rows,
        file_bytes=corpus.file_bytes,
        text_bytes=corpus.text_bytes,
        chunks=chunks,
        chunk_rows=largest,
        tokens=tokens,
        tokens_total=total + generated,
        tokens_per_s=speed,
        measured=measured_tokens_per_s is not None,
        workers=workers,
        seconds=seconds,
        worker_hours=hours,
        cost=None if price_per_hour is None else hours * price_per_hour,
        engine=engine_name(spec),
        on_long="" if generation is None else spec.params.get("on_long", "error"),
        generation=shown_settings(generation, spec.params),
        warnings=(*prepared.warnings, *_unknown(tokens.unknown_share)),
    )


def max_length_of(asked: int | None, limit: LengthLimit | None) -> tuple[int, str]:
    """The maximum tokens per row, and where the limit comes from."""
    if asked is not None:
        return asked, "--max-length"
    if limit is not None:
        return limit.tokens, limit.said_by
    return GUESSED_MAX_LENGTH, "a guess: the model's files are not here"


def _unknown(share: float) -> Iterator[str]:
    if share > MOST_UNKNOWN:
        yield (
            f"{share:.0%} of the tokens in a sample of these rows are unknown to the model's "
            "tokenizer: is it this model's, and does the model know this language?"
        )


def summarise(lengths: Sequence[int], exact: bool, max_length: int) -> TokenCounts:
    """Statistics of lengths in tokens."""
    ordered = sorted(lengths)
    rows = len(ordered)
    if not rows:
        return TokenCounts(0, exact, 0.0, 0, 0, 0, 0.0, 0.0, ())
    edges = [*BINS, None]
    bins = [
        Bin(low, high, sum(low <= n and (high is None or n < high) for n in ordered))
        for low, high in zip(BINS, edges[1:], strict=True)
    ]
    last = max(i for i, found in enumerate(bins) if found.rows)
    return TokenCounts(
        rows=rows,
        exact=exact,
        mean=sum(ordered) / rows,
        median=ordered[rows // 2],
        p95=ordered[min(rows - 1, int(rows * 0.95))],
        most=ordered[-1],
        truncated_share=sum(n > max_length for n in ordered) / rows,
        mean_scored=sum(min(n, max_length) for n in ordered) / rows,
        bins=tuple(bins[: last + 1]),
    )


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Tokens of each text of a sample."""

    lengths: list[int]
    exact: bool
    """The model's tokenizer counted them."""
    unknown_share: float = 0.0


def count_tokens(texts: Sequence[bytes], folder: Path | None) -> SampledTokens:
    """Number of tokens of each text, by the tokenizer.json of the model if there is one."""
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return SampledTokens(_by_bytes(texts), False)
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # not installed, or (a bare Exception from Rust) of a newer format
        return SampledTokens(_by_bytes(texts), False)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch([t.decode(errors="replace") for t in texts])
    few = encoded[:: max(1, len(encoded) // UNKNOWN_TEXTS)]
    return SampledTokens([len(e.ids) for e in encoded], True, _unknown_share(tokenizer, few))


def _unknown_share(tokenizer: Any, encoded: Sequence[Any]) -> float:
    name = getattr(tokenizer.model, "unk_token", None)
    names = [name] if name else ["[UNK]", "<unk>"]  # Unigram keeps a number that it does not tell
    unknown = {tokenizer.token_to_id(name) for name in names} - {None}
    text = [
        id_
        for e in encoded
        for id_, special in zip(e.ids, e.special_tokens_mask, strict=True)
        if not special or id_ in unknown
    ]
    return sum(id_ in unknown for id_ in text) / len(text) if text else 0.0


def _by_bytes(texts: Sequence[bytes]) -> list[int]:
    return [2 + round(len(text) / BYTES_PER_TOKEN) for text in texts]


def _within(files: Iterable[FileRows], count: int, limit: int | None) -> tuple[Any, int]:
    """The files, with the units that the job reads; and how many those are."""
    if limit is None:
        return files, count
    found, left = [], limit
    for file in files:
        units = cut(file.units, left)
        left -= sum(unit.rows for unit in units)
        found.append(replace(file, units=units))
        if left <= 0:
            break
    return found, len(found)


class SampledText(NamedTuple):
    """A text of the sample, of which only the start is kept."""

    start: bytes
    bytes: int
    """Of all of it."""

    def tokens(self, of_start: int) -> int:
        """Of all of it, from those of its start."""
        whole = self.bytes == len(self.start)
        return of_start if whole else round(of_start * self.bytes / len(self.start))


def sample_texts(
    files: Any, file_count: int, column: str, open_file: OpenFile, rows: int
) -> Iterator[SampledText]:
    """Texts from the beginning of a few units, spread over the files; nulls are left out."""
    places = min(SAMPLE_PLACES, max(1, file_count))
    wanted = {round(i * (file_count - 1) / max(1, places - 1)) for i in range(places)}
    units_each = max(1, SAMPLE_PLACES // len(wanted))
    each = -(-rows // len(wanted))
    for number, found in enumerate(files):
        if number in wanted:
            yield from _from_file(found, column, open_file, units_each, each)


def _from_file(
    found: FileRows, column: str, open_file: OpenFile, units: int, rows: int
) -> Iterator[SampledText]:
    import pyarrow as pa

    from schemas.errors import InputUnreadable

    filled = [unit for unit in found.units if unit.rows]
    units = min(units, len(filled))
    rows = -(-rows // max(1, units))
    picked = {i * (len(filled) - 1) // max(1, units - 1) for i in range(units)}
    try:
        reader = open_file(found.file)
        for unit in (filled[i] for i in sorted(picked)):
            span = Span.of_unit(unit, 0, min(rows, unit.rows))
            for batch in reader.read(span, [column], batch_rows=rows):
                values = as_bytes(plain_column(batch, column))
                for text in (value for value in values if value is not None):
                    yield SampledText(text[:SAMPLE_TEXT_BYTES], len(text))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputUnreadable(f"{found.file.uri}: column {shown(column)!r}: {error}") from error


def _chunks(prepared: PreparedJob) -> tuple[int, int]:
    """Number of chunks, and the rows of the largest."""
    count = largest = 0
    for chunk in prepared.plan.chunks():
        count += 1
        largest = max(largest, chunk.rows)
    return count, largest
