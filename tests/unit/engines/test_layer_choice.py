"""Each kind of layer is computed the way that is fastest here, and the choice is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from workers.engines.packed.layer_choice import (
    KEPT_S,
    Calls,
    Kind,
    LayerChoices,
    Way,
    fastest,
    for_this_cpu,
    time_ways,
)
from workers.engines.packed.linear import prepack_weights

GELU = Kind(384, 1536, bias=True, dtype="float32", gelu=True)
AVX512: dict[Way, float] = {"torch": 3.0, "laid_out": 2.5, "fused": 2.2}
ZEN_3: dict[Way, float] = {"torch": 3.0, "laid_out": 2.6, "fused": 4.1}
FACTS = {"cpu": "some CPU", "threads": "1", "torch": "2"}


@pytest.mark.parametrize(
    ("seconds", "default", "chosen"),
    [
        (AVX512, "fused", "fused"),
        (ZEN_3, "fused", "laid_out"),
        ({"torch": 2.0, "laid_out": 2.6, "fused": 4.1}, "fused", "torch"),
        ({"torch": 1.0, "laid_out": 2.0}, "laid_out", "torch"),
        ({"torch": 2.0, "laid_out": 1.0}, "laid_out", "laid_out"),
        ({"torch": 0.98, "laid_out": 1.0}, "laid_out", "laid_out"),  # within the margin
        ({"torch": 0.96, "laid_out": 1.0}, "laid_out", "torch"),
        ({"torch": 0.98, "laid_out": 0.98, "fused": 1.0}, "fused", "fused"),
        ({"torch": 0.0, "laid_out": 0.0}, "laid_out", "laid_out"),  # a clock too coarse to say
    ],
)
def test_the_fastest_way_replaces_the_default_by_a_margin(
    seconds: Mapping[Way, float], default: Way, chosen: Way
) -> None:
    assert fastest(seconds, default) == chosen


def test_slow_calls_and_the_first_do_not_decide() -> None:
    now, order = 0.0, []
    took = {"torch": iter([0.5, 9.0, 9.0, 1.0, 50.0, 9.0]), "laid_out": iter([2.0] * 6)}

    def call(way: Way) -> None:
        nonlocal now
        order.append(way)
        now += next(took[way])

    calls: Calls = {"torch": lambda: call("torch"), "laid_out": lambda: call("laid_out")}
    assert time_ways(calls, lambda: now) == {"torch": 1.0, "laid_out": 2.0}
    assert order == ["torch", "laid_out"] * 6


def test_larger_layers_are_timed_with_fewer_tokens() -> None:
    large = Kind(4096, 14336, bias=False, dtype="float32", gelu=False)
    small = Kind(32, 64, bias=True, dtype="float32", gelu=False)
    assert (small.tokens, GELU.tokens, large.tokens) == (2048, 1059, 10)


class Timed:
    """Says what a CPU would have measured, and counts how often it was asked."""

    def __init__(self, seconds: Mapping[Way, float]) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self, calls: Calls) -> Mapping[Way, float]:
        self.asked += 1
        return {way: self.seconds[way] for way in calls}


def no_calls() -> Calls:
    return dict.fromkeys(get_args(Way), lambda: None)


def test_a_second_start_times_nothing(tmp_path: Path) -> None:
    first, second = Timed(ZEN_3), Timed(AVX512)
    assert LayerChoices(tmp_path, FACTS, first)(GELU, no_calls) == "laid_out"
    assert LayerChoices(tmp_path, FACTS, second)(GELU, no_calls) == "laid_out"
    assert (first.asked, second.asked) == (1, 0)


@pytest.mark.parametrize("fact", FACTS)
def test_another_cpu_number_of_threads_or_torch_is_timed_again(fact: str, tmp_path: Path) -> None:
    LayerChoices(tmp_path, FACTS, Timed(ZEN_3))(GELU, no_calls)
    other = Timed(AVX512)
    assert LayerChoices(tmp_path, FACTS | {fact: "other"}, other)(GELU, no_calls) == "fused"
    assert other.asked == 1


def test_a_choice_of_long_ago_is_made_again(tmp_path: Path) -> None:
    LayerChoices(tmp_path, FACTS, Timed(ZEN_3), now_s=lambda: 0.0)(GELU, no_calls)
    for seconds, way in ((KEPT_S, "laid_out"), (KEPT_S + 1, "fused"), (2 * KEPT_S, "fused")):
        choices = LayerChoices(tmp_path, FACTS, Timed(AVX512), now_s=lambda: seconds)  # noqa: B023
        assert choices(GELU, no_calls) == way


def test_of_two_workers_that_start_together_the_first_to_write_chooses_for_both(
    tmp_path: Path,
) -> None:
    def beside(calls: Calls) -> Mapping[Way, float]:
        assert LayerChoices(tmp_path, FACTS, Timed(ZEN_3))(GELU, no_calls) == "laid_out"
        return AVX512

    assert LayerChoices(tmp_path, FACTS, beside)(GELU, no_calls) == "laid_out"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"key": "another", "way": "torch"}'])
def test_a_damaged_choice_is_made_again(damage: str, tmp_path: Path) -> None:
    LayerChoices(tmp_path, FACTS, Timed(ZEN_3))(GELU, no_calls)
    [kept] = tmp_path.iterdir()
    kept.write_text(damage)
    assert LayerChoices(tmp_path, FACTS, Timed(AVX512))(GELU, no_calls) == "fused"
    assert json.loads(kept.read_text())["way"] == "fused"


def test_a_folder_that_cannot_be_written_keeps_no_worker_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    choices = LayerChoices(tmp_path / "file", FACTS, Timed(ZEN_3))
    assert choices(GELU, no_calls) == choices(GELU, no_calls) == "laid_out"


@pytest.fixture
def bert() -> Any:
    import transformers

    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=50, num_hidden_layers=2, **size)
    return transformers.BertModel(config).eval()


@pytest.mark.parametrize("best", get_args(Way))
def test_every_way_gives_the_same_numbers(best: Way, bert: Any, tmp_path: Path) -> None:
    import torch

    timed = Timed({way: 1.0 if way == best else 2.0 for way in get_args(Way)})
    choices = LayerChoices(tmp_path, FACTS, timed)
    ids = torch.arange(300).remainder(50).unsqueeze(0)
    with torch.inference_mode():
        before = bert(ids).last_hidden_state
        replaced = prepack_weights(bert, choose=choices)
        after = bert(ids).last_hidden_state
    assert float((after - before).abs().max()) < 1e-5
    assert replaced == (0 if best == "torch" else 2 * 6 + 1)
    inside = bert.encoder.layer[0].intermediate
    assert isinstance(inside.intermediate_act_fn, torch.nn.Identity) == (best != "torch")
    assert getattr(inside.dense, "inside", "") == {"fused": "gelu", "laid_out": "none"}.get(
        best, ""
    )
    assert timed.asked == 3  # 32 to 32, 32 to 64 and GELU, 64 to 32: once, not once a layer


def test_layers_are_timed_on_this_cpu(bert: Any, tmp_path: Path) -> None:
    prepack_weights(bert, choose=for_this_cpu(tmp_path))
    found = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert sorted(len(one["seconds"]) for one in found) == [2, 2, 3]
    assert all(seconds > 0 for one in found for seconds in one["seconds"].values())
