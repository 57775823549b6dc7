"""The engine `transformers`: what `generate` makes of each prompt alone, in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Stopped
from tests.unit.generation.engine_runs import Events, expected, loaded, prompts_of, run
from tests.unit.generation.peaked import examples

ROWS = [prompt for prompt, _ in examples(12, 5)]
PENALTIES = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 3}


@pytest.mark.parametrize(
    ("family", "values"),
    [("bart", {}), ("t5", {}), ("llama", PENALTIES), ("gpt2", {}), ("mistral", {})],
)
def test_greedy_text_is_that_of_generate_alone(
    family: str, values: dict[str, Any], tmp_path: Path
) -> None:
    engine = loaded(tmp_path, family, **values)
    assert engine.joins == engine.reads_together == (family in ("llama", "gpt2"))
    assert engine.one_length == (family not in ("bart", "t5"))
    wanted = [expected(engine, ids) for ids in ROWS]
    assert len({text.count(" ") for text in wanted}) > 1  # of many lengths
    for rows in (1, 5, 64):
        found = run(engine, prompts_of(ROWS), rows=rows)
        assert [found[at].text for at in range(len(ROWS))] == wanted


@pytest.mark.parametrize(
    ("family", "values"),
    [("bart", {"early_stopping": True, "length_penalty": 2.0}), ("t5", {}), ("llama", {})],
)
def test_beam_text_is_that_of_generate_alone(
    family: str, values: dict[str, Any], tmp_path: Path
) -> None:
    engine = loaded(tmp_path, family, num_beams=3, **values)
    wanted = [expected(engine, ids) for ids in ROWS[:8]]
    for rows in (1, 5, 64):
        found = run(engine, prompts_of(ROWS[:8]), rows=rows)
        assert [found[at].text for at in range(8)] == wanted


def test_sampled_text_is_that_of_the_seed_whatever_the_batch(tmp_path: Path) -> None:
    values = {"do_sample": True, "temperature": 1.3, "top_k": 20, "top_p": 0.9}
    engine = loaded(tmp_path, "llama", seed=7, **values)
    alone = run(engine, prompts_of(ROWS), rows=1)
    together = run(engine, prompts_of(ROWS)[::-1], rows=64)
    assert _texts(together) == _texts(alone)
    engine._seed = 8
    assert _texts(run(engine, prompts_of(ROWS))) != _texts(alone)


def test_rows_join_while_others_run(tmp_path: Path) -> None:
    engine, watch = loaded(tmp_path, "llama"), Events()
    run(engine, prompts_of(ROWS), rows=4, watch=watch)
    assert max(watch.widths) == 4
    # some row ran beside one that left, and then beside one that was not there before
    pairs = [(one, other) for one in watch.held for other in watch.held]
    assert any(one & other and one - other and other - one for one, other in pairs)
    assert watch.held[-1] == frozenset()
    assert all(len(rows) <= 4 for rows in watch.held)


def test_prompts_of_about_one_length_are_read_together(tmp_path: Path) -> None:
    engine, watch = loaded(tmp_path, "llama"), Events()
    rows = [[5] * length for length in (9, 10, 9, 30)]
    found = run(engine, prompts_of(rows), watch=watch)
    assert watch.widths[:2] == [3, 1]
    assert [found[at].text for at in range(4)] == [expected(engine, ids) for ids in rows]


def test_a_row_leaves_with_its_last_token(tmp_path: Path) -> None:
    engine, watch = loaded(tmp_path, "bart"), Events()
    found = run(engine, prompts_of(ROWS), watch=watch)
    lengths = sorted(answer.n_generated for answer in found.values())
    assert watch.widths == [sum(n > step for n in lengths) for step in range(max(lengths))]


def test_out_of_memory_means_fewer_rows_and_the_same_texts(tmp_path: Path) -> None:
    engine, watch = loaded(tmp_path, "bart"), Events()
    wanted = _texts(run(engine, prompts_of(ROWS)))
    real = engine.model.forward

    def small(*args: Any, **kwargs: Any) -> Any:
        if kwargs["decoder_input_ids"].shape[0] > 3:
            raise MemoryError
        return real(*args, **kwargs)

    engine.model.forward = small
    assert _texts(run(engine, prompts_of(ROWS), watch=watch)) == wanted
    assert 1 <= len(watch.full) <= 3
    assert engine._most_rows <= 3


@pytest.mark.parametrize("family", ["bart", "llama"])
def test_a_row_that_raises_is_the_only_one_that_fails(family: str, tmp_path: Path) -> None:
    engine = loaded(tmp_path, family)
    wanted = _texts(run(engine, prompts_of(ROWS)))
    real = engine._ending.answer

    def answer(prompt: Any, *rest: Any) -> Any:
        if prompt.row == 5:
            raise ValueError("this one")
        return real(prompt, *rest)

    object.__setattr__(engine, "_ending", _Raising(engine._ending, answer))
    found = run(engine, prompts_of(ROWS))
    assert str(found.pop(5).error) == "this one"
    assert _texts(found) == {row: text for row, text in wanted.items() if row != 5}


class _Raising:
    """An ending with another `answer`."""

    def __init__(self, ending: Any, answer: Any) -> None:
        self._ending, self.answer = ending, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ending, name)


def test_a_row_that_does_not_end_stops_at_its_length(tmp_path: Path) -> None:
    engine = loaded(tmp_path, "bart")
    found = run(engine, prompts_of(ROWS, most=4))
    assert {a.finish_reason for a in found.values() if a.n_generated == 4} >= {"length"}
    assert max(a.n_generated for a in found.values()) == 4


def test_a_stop_between_steps_ends_the_work_and_leaves_the_engine_usable(tmp_path: Path) -> None:
    engine = loaded(tmp_path, "llama")
    wanted = _texts(run(engine, prompts_of(ROWS)))
    with pytest.raises(Stopped):
        run(engine, prompts_of(ROWS), watch=Events(stop_after=5))
    assert _texts(run(engine, prompts_of(ROWS))) == wanted


def test_a_stop_text_ends_an_answer_and_is_not_part_of_it(tmp_path: Path) -> None:
    engine = loaded(tmp_path, "bart")
    whole = run(engine, prompts_of(ROWS))
    row = max(whole, key=lambda at: whole[at].n_generated)
    words = whole[row].text.split()
    engine = loaded(tmp_path / "stop", "bart", stop=(words[2],))
    found = run(engine, prompts_of(ROWS))[row]
    assert found.text.split() == words[: words.index(words[2])]
    assert (found.finish_reason, found.n_generated) == ("stop", words.index(words[2]) + 1)


def test_the_logprob_is_that_of_the_tokens(tmp_path: Path) -> None:
    import torch

    engine = loaded(tmp_path, "llama")
    found = run(engine, prompts_of(ROWS[:1]))[0]
    ids = torch.tensor([ROWS[0]])
    out = engine.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16)
    logits = engine.model(out).logits.detach()[0, len(ROWS[0]) - 1 : -1].log_softmax(-1)
    new = out[0, len(ROWS[0]) :]
    assert found.logprob == pytest.approx(float(logits[range(len(new)), new].sum()), abs=1e-3)
    assert found.n_generated == len(new)


def _texts(answers: dict[int, Any]) -> dict[int, str]:
    return {row: answer.text for row, answer in answers.items()}
