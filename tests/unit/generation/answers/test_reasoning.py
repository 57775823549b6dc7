"""What a model thinks is split from what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.generation.reasoning import split_reasoning
from headrace.tasks.generation.specs import settle
from schemas.errors import ConfigError
from tests.unit.generation.echo_engine import EchoEngine
from tests.unit.generation.test_task import loaded, rows_of
from workers.engines.endpoint.engine import answer_of

CASES = {
    "thought and answer": ("<think>\nhm\n</think>\n\nyes", "", "hm", "yes"),
    "begun in the prompt": ("hm </think> yes", "assistant <think>\n", "hm", "yes"),
    "begun unseen": ("hm</think>yes", "", "hm", "yes"),
    "nothing thought": ("<think>\n\n</think>\n\nyes", "", "", "yes"),
    "cut": ("<think> hm", "", "hm", ""),
    "cut, begun in the prompt": ("hm", "<think>\n", "hm", ""),
    "no thought": (" yes ", "user: hi", None, " yes "),
    "said later": ("I <think> so", "", None, "I <think> so"),
}


@pytest.mark.parametrize(("text", "prompt", "thought", "answer"), CASES.values(), ids=CASES)
def test_reasoning_is_what_comes_before_its_end(
    text: str, prompt: str, thought: str | None, answer: str
) -> None:
    assert split_reasoning(text, prompt) == (thought, answer)


class _Thinks(EchoEngine):
    def generate(self, *given: Any) -> Any:
        for answer in super().generate(*given):
            object.__setattr__(answer, "text", f"<think>a {answer.text}</think>b")
            yield answer


@pytest.mark.parametrize(("samples", "thought"), [(1, "a 1w"), (2, ["a 1w", "a 1w"])])
def test_reasoning_is_a_column(samples: int, thought: Any, tmp_path: Path) -> None:
    task = loaded(
        tmp_path, "llama", _Thinks(), split_reasoning=True, num_samples=samples, temperature=1.0
    )
    (row,) = rows_of(task, ["w1"])
    assert row["reasoning"] == thought
    assert row["generated_text"] == ("b" if samples == 1 else ["b", "b"])
    names = [field.name for field in task.task.columns()]
    assert names[4] == "reasoning"
    assert "reasoning" not in [field.name for field in loaded(tmp_path).task.columns()]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_the_reasoning_of_an_api_is_kept_as_it_is(name: str) -> None:
    message = {"content": "yes", name: "hm"}
    found = answer_of(0, {"choices": [{"message": message, "finish_reason": "stop"}]})
    assert (found.text, found.reasoning) == ("yes", "hm")


def test_a_form_has_no_reasoning() -> None:
    with pytest.raises(ConfigError, match="exclude one another"):
        settle({"split_reasoning": True, "choices": "a,b"})
