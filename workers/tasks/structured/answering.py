"""What tasks that generate share, wherever their model is: answers to columns, and single batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from headrace.tasks.contract import Encodings
from headrace.tasks.generation.answer import Answer, Watch
from workers.tasks.by_row.own_prompt import own_prompt
from workers.tasks.structured.answer_columns import answer_arrays, answer_fields
from workers.tasks.structured.reasoning import reasoning_array, reasoning_field, split_apart
from workers.tasks.structured.typed_answers import TypedAnswers


class AnswersInColumns:
    """The part of such a task that does not know its engine."""

    _form: TypedAnswers
    _samples: int
    """Answers to each row."""
    _splits: bool
    """Whether reasoning has a column of its own."""

    def columns(self) -> list[pa.Field]:
        """See `Task.columns`."""
        thought = [reasoning_field(self._samples)] if self._splits else []
        return [*answer_fields(self._samples), *thought, *self._form.columns()]

    def generate(self, rows: Encodings, watch: Watch, budget_tokens: int) -> Iterator[Answer]:
        """See `SupportsGeneration.generate`."""
        raise NotImplementedError

    def default_batch_tokens(self) -> int:
        """See `Task.default_batch_tokens`."""
        raise NotImplementedError

    def forward(self, batch: Encodings) -> list[Answer]:
        """See `Task.forward`; raises the error of the first row that has one."""
        found = {a.row: a for a in self.generate(batch, _Alone(), self.default_batch_tokens())}
        for answer in found.values():
            if answer.error is not None:
                raise answer.error
        return [found[row] for row in range(len(batch))]

    def decode(self, batch: Encodings, output: Sequence[Answer]) -> pa.RecordBatch:
        """See `Task.decode`."""
        thought: list[pa.Array] = []
        if self._splits:
            prompts = [own_prompt(it).text for it in batch.extra or [""] * len(output)]
            output = [split_apart(it, text) for it, text in zip(output, prompts, strict=True)]
            thought = [reasoning_array(output, self._samples)]
        columns = [
            *answer_arrays(output, self._samples), *thought, *self._form.arrays(output),
        ]  # fmt: skip
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(self.columns()))


class _Alone:
    """A watch for rows that no job waits for."""

    def check(self) -> None: ...
    def holding(self, rows: Collection[int]) -> None: ...
    def stepped(self, *, rows: int, tokens: int) -> None: ...
    def first_tokens(self, rows: int, seconds: float) -> None: ...
    def out_of_memory(self, tokens: int) -> None: ...
