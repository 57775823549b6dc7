"""What prompts begin with in common is read once, and changes no text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.generation.engine_runs import expected, loaded, prompts_of, run
from tests.unit.generation.peaked import examples
from workers.engines.stepwise.engine import StepwiseEngine
from workers.engines.stepwise.shared_start import LEAST, common_start

START = [token for ids, _ in examples(6, 24) for token in ids][:20]
ROWS = [START + ids for ids, _ in examples(12, 3)]
ODD = [ids for ids, _ in examples(2, 12)]
PENALTIES = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2}


class Reads:
    """Counts the tokens that a model's forward is given, padding included."""

    def __init__(self, engine: StepwiseEngine) -> None:
        self.tokens = 0
        self._real = engine.model.forward
        engine.model.forward = self

    def __call__(self, input_ids: Any = None, **kwargs: Any) -> Any:
        self.tokens += input_ids.numel()
        return self._real(input_ids=input_ids, **kwargs)


@pytest.mark.parametrize(
    ("family", "values"), [("llama", PENALTIES), ("gpt2", {}), ("mistral", {}), ("bart", {})]
)
def test_texts_are_those_of_generate_alone(
    family: str, values: dict[str, Any], tmp_path: Path
) -> None:
    engine = loaded(tmp_path, family, **values)
    assert (engine._shared is not None) == (family in ("llama", "gpt2"))
    rows = [*ROWS, *ODD, START, START[:-3]]
    wanted = [expected(engine, ids) for ids in rows]
    for most in (1, 5, 64):
        found = run(engine, prompts_of(rows), rows=most)
        assert [found[at].text for at in range(len(rows))] == wanted


def test_a_beginning_is_read_once_for_all_calls(tmp_path: Path) -> None:
    engine = loaded(tmp_path, "llama")
    reads = Reads(engine)
    without_answers = prompts_of(ROWS, most=1)
    run(engine, without_answers)
    own = sum(len(row) - len(START) for row in ROWS)
    assert reads.tokens <= len(START) + 1.3 * own
    reads.tokens = 0
    run(engine, without_answers[:5])
    assert reads.tokens <= 5 * max(len(row) - len(START) for row in ROWS[:5])  # with padding


def test_sampled_texts_do_not_depend_on_it(tmp_path: Path) -> None:
    engine = loaded(tmp_path, "llama", seed=7, do_sample=True, temperature=1.3)
    wanted = {row: answer.text for row, answer in run(engine, prompts_of(ROWS)).items()}
    engine._shared = None
    assert {row: answer.text for row, answer in run(engine, prompts_of(ROWS)).items()} == wanted


def test_a_failure_while_it_is_read_is_that_of_its_rows(tmp_path: Path) -> None:
    engine = loaded(tmp_path, "llama")
    wanted = {row: answer.text for row, answer in run(engine, prompts_of(ODD)).items()}
    assert engine._shared is not None

    def fails() -> Any:
        raise ValueError("no beginning")

    engine._shared.beginning = fails  # type: ignore[method-assign]
    found = run(engine, [*prompts_of([*ODD, *ROWS])])
    assert [found[row].text for row in wanted] == list(wanted.values())
    assert {str(found[at].error) for at in range(len(ODD), len(found))} == {"no beginning"}


@pytest.mark.parametrize(
    ("rows", "tokens"),
    [
        ([], 0),
        ([range(LEAST)], 0),
        ([range(40)], 0),  # nothing to share with
        ([range(40), range(40)], 39),  # one token of its own
        ([range(40), [*range(20), 7, 8]], 20),
        ([range(40), [*range(LEAST - 1), 99, 98]], 0),
        ([[*range(30), 1], [*range(30), 2], [5] * 60], 30),  # an odd row
    ],
)
def test_the_common_start_is_that_of_the_largest_group(rows: Any, tokens: int) -> None:
    found = common_start([np.array(list(row), dtype=np.int32) for row in rows])
    assert found.tolist() == list(range(tokens))
