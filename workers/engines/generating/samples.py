"""Several samples of a prompt: to the engine each is a prompt of its own, with a key of its own.

So the text of a sample depends on the job's seed, the prompt, the sample's number and the step, and
the first is that of a job with one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from workers.engines.generating.base import Answer, Prompt, Watch


def repeated(prompts: Sequence[Prompt], samples: int) -> list[Prompt]:
    """Each prompt so many times; the samples of row r are the rows from r × samples on."""
    return [
        replace(it, row=it.row * samples + at, key=_key(it.key, at))
        for it in prompts
        for at in range(samples)
    ]


def gathered(answers: Iterable[Answer], samples: int) -> Iterator[Answer]:
    """The answer of each row once all of its samples are there: an error if one of them is."""
    waiting: dict[int, dict[int, Answer]] = {}
    for answer in answers:
        row, at = divmod(answer.row, samples)
        own = waiting.setdefault(row, {})
        own[at] = answer
        if len(own) == samples:
            del waiting[row]
            yield _together(row, [own[at] for at in range(samples)])


def _together(row: int, samples: list[Answer]) -> Answer:
    error = next((it.error for it in samples if it.error is not None), None)
    if error is not None:
        return Answer(row, error=error)
    return replace(
        samples[0], row=row, n_generated=sum(it.n_generated for it in samples),
        samples=tuple(samples),
    )  # fmt: skip


def _key(key: bytes, sample: int) -> bytes:
    return key if sample == 0 else blake2b(b"%d\0" % sample + key, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class RowWatch:
    """A watch that names the rows of samples."""

    watch: Watch
    samples: int

    def check(self) -> None:
        """See `Watch.check`."""
        self.watch.check()

    def holding(self, rows: Collection[int]) -> None:
        """See `Watch.holding`."""
        self.watch.holding({row // self.samples for row in rows})

    def stepped(self, *, rows: int, tokens: int) -> None:
        """See `Watch.stepped`."""
        self.watch.stepped(rows=rows, tokens=tokens)

    def first_tokens(self, rows: int, seconds: float) -> None:
        """See `Watch.first_tokens`: of samples."""
        self.watch.first_tokens(rows, seconds)

    def out_of_memory(self, tokens: int) -> None:
        """See `Watch.out_of_memory`."""
        self.watch.out_of_memory(tokens)
