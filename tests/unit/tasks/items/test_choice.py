"""A language model's choice, scored as one row and one choice at a time."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from headrace.tasks.items.choices import CHOICE, check_files
from schemas.errors import ConfigError, InvalidRow, ModelError
from tests.unit.tiny_models import TEXTS, TinyModels, answers
from workers.models.choice_tokens import tree_of
from workers.tasks.choosing.choice import Choice

CHOICES = ["good", "bad film", "bad", "bad film and bad weather", "paris"]
START = "a very long text of all kinds, " * 3
PROMPTS = [
    *(text for text in TEXTS if len(text) < 60),
    *(START + text for text in ("x", "good or bad?", "paris ", "london and new york", "the")),
]


def load(path: str, *, max_length: int = 512, **params: Any) -> Choice:
    task = Choice()
    given = {"choices": json.dumps(CHOICES), **params}
    task.load(LoadRequest(path, "cpu", "float32", max_length, given))
    return task


@cache
def parts_of(path: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


@cache
def logprobs(path: str, prompt: str, choice: str) -> np.ndarray:
    """Of each token of the choice, by transformers alone."""
    import torch

    model, tokenizer = parts_of(path)
    before = tokenizer(prompt)["input_ids"]
    ids = tokenizer(choice, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        found = model(torch.tensor([before + ids])).logits[0].log_softmax(-1)
    places = torch.arange(len(ids)) + len(before) - 1
    return np.asarray(found[places, torch.tensor(ids)])


def expected(path: str, prompt: str, *, by_mean: bool = True) -> dict[str, float]:
    prompt = prompt.removesuffix(" ")
    each = [logprobs(path, prompt, choice) for choice in CHOICES]
    found = np.array([it.mean() if by_mean else it.sum() for it in each])
    shares = np.exp(found - found.max())
    return dict(zip(CHOICES, shares / shares.sum(), strict=True))


def scores_of(row: dict[str, Any]) -> dict[str, float]:
    assert [it["score"] for it in row["scores"]] == sorted(
        (it["score"] for it in row["scores"]), reverse=True
    )
    assert (row["predicted_label"], row["score"]) == tuple(row["scores"][0].values())
    return {it["label"]: it["score"] for it in row["scores"]}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_scores_are_those_of_one_row_and_one_choice_at_a_time(
    family: str, tiny: TinyModels
) -> None:
    path = tiny(family, "CausalLM")
    task = load(path)
    assert not task.padded
    for budget in (1, 300, 100_000):
        for prompt, row in zip(PROMPTS, answers(task, PROMPTS, budget=budget), strict=True):
            assert scores_of(row) == pytest.approx(expected(path, prompt), abs=1e-5)
            alone = logprobs(path, prompt.removesuffix(" "), row["predicted_label"]).sum()
            assert row["logprob"] == pytest.approx(alone, abs=1e-3)


def test_without_length_normalization_it_is_the_sum_of_a_choices_tokens(tiny: TinyModels) -> None:
    path = tiny("llama", "CausalLM")
    task = load(path, length_normalize=False)
    for prompt, row in zip(PROMPTS, answers(task, PROMPTS), strict=True):
        assert scores_of(row) == pytest.approx(expected(path, prompt, by_mean=False), abs=1e-5)


@pytest.mark.parametrize("mode", ["padded", "equal", "alone"])
def test_other_ways_of_running_give_the_same(mode: Any, tiny: TinyModels) -> None:
    path = tiny("llama", "CausalLM")
    task = load(path)
    task.engine.runner.set_mode(mode)  # type: ignore[attr-defined]
    for prompt, row in zip(PROMPTS, answers(task, PROMPTS, budget=300), strict=True):
        assert scores_of(row) == pytest.approx(expected(path, prompt), abs=1e-5)


def test_what_prompts_begin_with_is_computed_once(tiny: TinyModels) -> None:
    task = load(tiny("llama", "CausalLM"))
    runner: Any = task.engine.runner  # type: ignore[attr-defined]
    seen: list[int] = []
    embeddings = runner._model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _, args, out: seen.append(args[0].numel()))
    prompts = [f"{START}{word} film" for word in ("good", "bad", "long", "short")] * 2
    batch = task.encode(prompts)
    task.forward(batch)
    whole, nodes = int(batch.lengths[0]), len(runner._trees[0].tokens)
    assert seen[0] > whole // 2  # the beginning
    assert seen[1:] == [len(prompts) * (whole - seen[0] + nodes)]
    assert task.costs(batch).sum() < batch.lengths.sum()
    task.forward(batch)
    assert len(seen) == 3  # it was kept


def test_a_chat_template_is_applied(tiny: TinyModels) -> None:
    path = tiny("llama", "CausalLM")
    template = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} . {% endfor %}answer : "
    task = load(path, chat_template=template, system_prompt="the weather")
    prompt = "system : the weather . user : is it good? . answer : "
    _, tokenizer = parts_of(path)
    ids = task.encode(["is it good?"]).ids.tolist()
    assert ids == tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_a_prompt_too_long_is_an_error_or_cut(tiny: TinyModels) -> None:
    path = tiny("llama", "CausalLM")
    with pytest.raises(InvalidRow, match=r"the prompt has 102 tokens and the model has room for 2"):
        load(path, max_length=32).encode(["good " * 100])
    cut = load(path, max_length=32, on_long="truncate-left").encode(["good " * 100])
    assert cut.truncated.tolist() == [True]
    assert len(cut.ids) <= 32
    with pytest.raises(ConfigError, match="leaves no room for a prompt within 4 tokens"):
        load(path, max_length=4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "needs --choices"),
        ("a,a", "choice 'a' is there 2 times"),
        ("a,,b", "choice 2 of 3 is empty"),
        ("", "there is no choice"),
        ("a", "a choice needs two"),
    ],
)
def test_choices_that_cannot_be_used_are_refused(given: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CHOICE.resolve({"choices": given})


def test_choices_of_the_same_tokens_are_refused(tiny: TinyModels) -> None:
    with pytest.raises(ConfigError, match="'Paris' and 'paris' have the same tokens"):
        load(tiny("llama", "CausalLM"), choices=json.dumps(["Paris", "london", "paris"]))


def test_choices_come_from_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "choices.txt"
    file.write_text("yes, of course\nno\n")
    found = CHOICE.resolve({"choices": str(file)})
    assert json.loads(found["choices"]) == ["yes, of course", "no"]
    assert CHOICE.resolve(found) == found


@pytest.mark.parametrize("name", ["BertForMaskedLM", "T5ForConditionalGeneration"])
def test_a_model_that_continues_no_text_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no head for choice"):
        check_files({"config.json": {"architectures": [name]}}.get, {}, "here")


def test_what_choices_have_in_common_is_one_node() -> None:
    tree = tree_of([[5], [5, 6], [5, 6, 7], [8, 6, 9]], list("abcd"))
    assert tree.tokens.tolist() == [5, 6, 8, 6]
    assert tree.parents.tolist() == [0, 1, 0, 3]
    assert tree.depths.tolist() == [1, 2, 1, 2]
    assert tree.node_of.tolist() == [0, 0, 1, 0, 1, 2, 0, 3, 4]
    assert [path.tolist() for path in tree.paths()] == [[1, 2], [3, 4]]
    assert tree.sees.astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
    ]
