"""Texts of a trained model beside `generate` on each row alone: `python -m benchmarks.generation.equality`.

Trains the demo's writer (or takes `--model`), and compares greedy and beam text of notes that it has
not seen, at 1, 8 and 64 rows at once. Prints each difference with the gap between both answers:
that of their scores as `generate` counts them, in natural logarithms a token.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from headrace.tasks.contract import Encodings, LoadRequest
from producers.demo.diary import notes
from workers.demo.writer import train_writer
from workers.tasks.generation import Text2TextGeneration

TIE = 1e-4
"""A gap that rounding may close, in natural logarithms a token. Required."""
AT_ONCE = (1, 8, 64)
SEED = 3
"""Of the notes: neither the demo's training nor its corpus."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row whose text is another than `generate`'s."""

    row: int
    wanted: str
    found: str
    gap: float
    """How much more likely one answer is than the other, in natural logarithms a token."""


def loaded(model: Path, beams: int, most: int = 60) -> Text2TextGeneration:
    """The task with the engine `transformers`, in float32 on the CPU."""
    task = Text2TextGeneration()
    params = {"num_beams": beams, "max_new_tokens": most}
    task.load(LoadRequest(str(model), "cpu", "float32", None, params, engine="transformers"))
    return task


def alone(task: Any, rows: Encodings, beams: int) -> list[str]:
    """What `generate` makes of each row by itself."""
    import torch

    most, found = int(task.settings.values["max_new_tokens"]), []
    for at in range(len(rows)):
        ids = torch.from_numpy(rows.ids[rows.offsets[at] : rows.offsets[at + 1]].astype("int64"))
        out = task.engine.model.generate(ids[None], num_beams=beams, max_new_tokens=most)[0]
        found.append(task.tokenizer.decode(out, skip_special_tokens=True))
    return found


def differences(
    task: Any, texts: Sequence[str], rows: Encodings, wanted: Sequence[str], at_once: int
) -> list[Difference]:
    """Rows whose text is not the wanted one with so many rows in the model."""
    task.engine._most_rows = at_once
    answers = {it.row: it for it in task.generate(rows, Quiet(), 1 << 22)}
    return [
        Difference(at, text, answers[at].text, _gap(task, texts[at], text, answers[at].text))
        for at, text in enumerate(wanted)
        if answers[at].error is not None or answers[at].text != text
    ]


def _gap(task: Any, text: str, one: str, other: str) -> float:
    """The difference of both answers' mean log-probabilities after the text."""
    import torch

    def score(answer: str) -> float:
        given = task.tokenizer([text], return_tensors="pt")["input_ids"]
        labels = task.tokenizer([answer], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return -float(task.engine.model(input_ids=given, labels=labels).loss)

    return abs(score(one) - score(other))


class Quiet:
    """A watch that nothing happens to."""

    def check(self) -> None: ...
    def holding(self, rows: Any) -> None: ...
    def stepped(self, *, rows: int, tokens: int) -> None: ...
    def first_tokens(self, rows: int, seconds: float) -> None: ...
    def out_of_memory(self, tokens: int) -> None: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a trained writer; default: train one")
    parser.add_argument("--rows", type=int, default=1_000, help="rows of each kind")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or train_writer(
            [(note.text, note.entry) for note in notes(2, 32_000)],
            Path(folder) / "writer", say=partial(print, flush=True),
        )  # fmt: skip
        faults = [_compared(model, beams, asked.rows) for beams in asked.beams]
    return int(any(faults))


def _compared(model: Path, beams: int, count: int) -> int:
    """How many rows differ by more than a tie, or are too many; printed."""
    import torch

    torch.set_num_threads(1)
    task, given = loaded(model, beams), list(notes(SEED, count))
    texts = [note.text for note in given]
    rows = task.encode(texts)
    wanted = alone(task, rows, beams)
    right = sum(text == note.entry for text, note in zip(wanted, given, strict=True))
    print(f"beams {beams}: {count} rows, {right / count:.1%} right", flush=True)
    faults = 0
    for at_once in AT_ONCE:
        found = differences(task, texts, rows, wanted, at_once)
        print(f"  {at_once:>2} at once: {count - len(found)} of {count} equal", flush=True)
        for it in found:
            print(f"    row {it.row}, gap {it.gap:.1e}: {it.wanted!r} became {it.found!r}")
        faults += sum(it.gap >= TIE for it in found) + (len(found) > count / 1_000)
    return faults


if __name__ == "__main__":
    raise SystemExit(main())
