"""Linear layers in 8-bit integers: near fp32 in every family, and the same in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headrace.process.cpu import adds_in_32_bits, cpu_flags, number_formats
from headrace.tasks.contract import LoadRequest
from tests.unit.tiny_models import CONFIGS, LABELS, TEXTS, TinyModels, answers
from workers.engines.packed.int8 import _module_class, _Rounding, _scales, quantize
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification
from workers.tasks.token_classification import TokenClassification

# what such a processor is answered instead is in test_int8_refused
pytestmark = pytest.mark.skipif(
    bool(number_formats()["int8"]), reason=f"int8 on this CPU: {number_formats()['int8']}"
)


def load(task: Any, path: str, dtype: str = "int8", **params: Any) -> Any:
    loaded = task()
    loaded.load(LoadRequest(path, "cpu", dtype, None, params))
    return loaded


def in_int8(model: Any) -> list[str]:
    return [name for name, m in model.named_modules() if type(m).__name__ == "Int8Linear"]


@pytest.fixture
def bert() -> Any:
    import torch
    import transformers

    torch.manual_seed(3)
    size: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    size |= {"vocab_size": 50, "num_hidden_layers": 2}
    config = transformers.BertConfig(**size, initializer_range=0.2)
    return transformers.BertModel(config).eval()


def run(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.arange(40).unsqueeze(0)).last_hidden_state


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family_is_near_its_answers_in_fp32(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "SequenceClassification", num_labels=3)
    exact, rounded = load(TextClassification, path, "float32"), load(TextClassification, path)

    assert rounded.engine.runner.mode == exact.engine.runner.mode
    assert len(in_int8(rounded.engine.runner._model)) >= 2 * 4, "hardly a layer was replaced"
    batch = exact.encode(TEXTS)
    one, two = exact.forward(batch), rounded.forward(batch)
    assert not np.array_equal(one, two)
    # random weights of this size amplify each rounding: trained ones are ten times nearer
    assert np.median(np.abs(one - two)) < 0.12 * np.abs(one).mean()


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "llama"])
def test_an_answer_does_not_depend_on_its_batch(family: str, tiny: TinyModels) -> None:
    task = load(TextClassification, tiny(family, "SequenceClassification", num_labels=3))
    rows = answers(task, TEXTS, budget=100_000)
    for text, row in zip(TEXTS, rows, strict=True):
        alone = answers(task, [text])[0]
        assert alone["score"] == pytest.approx(row["score"], abs=0.02)


def test_vectors_keep_their_direction(tiny: TinyModels) -> None:
    path = tiny("bert", "")
    one, two = (load(FeatureExtraction, path, d, normalize=True) for d in ("float32", "int8"))
    batch = one.encode(TEXTS)
    cosines = (one.forward(batch) * two.forward(batch)).sum(axis=1)
    assert cosines.mean() > 0.99


def test_tokens_keep_their_labels(tiny: TinyModels) -> None:
    path = tiny("bert", "TokenClassification", id2label=LABELS)
    one, two = (load(TokenClassification, path, d) for d in ("float32", "int8"))
    batch = one.encode(TEXTS)
    best = [task.forward(batch).argmax(axis=1) for task in (one, two)]
    assert (best[0] == best[1]).mean() > 0.92


def test_heads_and_poolers_stay_as_they_are(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", num_labels=40)
    names = in_int8(load(TextClassification, path).engine.runner._model)
    assert len(names) == 2 * 6
    assert all(name.startswith("bert.encoder.layer.") for name in names)


def test_layers_that_read_one_input_round_it_once(bert: Any) -> None:
    quantize(bert, lambda: run(bert))
    layer = bert.encoder.layer[0]
    own = layer.attention.self
    assert own.query.rounding is own.key.rounding is own.value.rounding
    assert own.query.rounding is not layer.attention.output.dense.rounding


def test_nothing_rounded_is_kept_when_its_activations_are_gone(bert: Any) -> None:
    quantize(bert, lambda: run(bert))
    answer = run(bert)
    inner = bert.encoder.layer[1].output.dense.rounding
    assert inner._rounded is None
    assert answer.isfinite().all()


def test_a_gelu_is_done_by_the_layer_before_it_and_not_twice(bert: Any) -> None:
    import torch

    before = run(bert)
    quantize(bert, lambda: run(bert))
    inner = bert.encoder.layer[0].intermediate
    assert inner.dense.then_gelu
    assert type(inner.intermediate_act_fn) is torch.nn.Identity
    assert not bert.encoder.layer[0].output.dense.then_gelu
    assert float((run(bert) - before).abs().mean()) < 0.05


@given(hnp.arrays(np.float32, (3, 8), elements=st.floats(-1e4, 1e4, width=32)))
def test_a_token_is_rounded_to_within_half_a_step_of_its_own(x: np.ndarray) -> None:
    import torch

    rounded, scale, low = _Rounding(None)(torch.from_numpy(x))
    back = (rounded * scale + low).numpy()
    span = np.ptp(x, axis=1, keepdims=True) / 255
    assert (np.abs(back - x) <= 0.5 * span + 1e-5 * np.abs(x).max() + 1e-6).all()


def test_a_layer_that_would_be_far_off_stays(bert: Any) -> None:
    import torch

    layer = bert.encoder.layer[1]
    with torch.no_grad():
        # a weight that nothing ever meets: it takes the whole range of its row
        layer.intermediate.dense.weight[0] = 0
        layer.intermediate.dense.bias[0] = 0
        layer.output.dense.weight[:, 0] = 1e5
        layer.intermediate.dense.bias[1] = 10  # one-sided: no smoothing
    before = run(bert)
    done = quantize(bert, lambda: run(bert))
    assert (done.replaced, done.kept) == (11, 1)
    assert type(layer.output.dense) is torch.nn.Linear
    assert float((run(bert) - before).abs().mean()) < 0.05


def test_a_layer_that_never_ran_stays(bert: Any) -> None:
    import torch

    bert.spare = torch.nn.ModuleList([torch.nn.Linear(64, 64)])
    done = quantize(bert, lambda: run(bert))
    assert (done.replaced, done.kept) == (12, 1)
    assert type(bert.spare[0]) is torch.nn.Linear


def test_large_channels_do_not_drown_the_small_ones() -> None:
    import torch

    torch.manual_seed(1)
    block = torch.nn.Module()
    block.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 64)])
    x = torch.randn(100, 64)
    x[:, 7] *= 300  # as BERT's outliers
    with torch.no_grad():
        block.blocks[0].weight[:, 7] /= 300
    expected = block.blocks[0](x).detach()
    quantize(block, lambda: block.blocks[0](x))
    apart = (block.blocks[0](x) - expected).square().mean() ** 0.5
    assert float(apart / expected.square().mean() ** 0.5) < 0.02


@pytest.mark.parametrize("width", [32, 33, 38, 1000])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("wide_sums", sorted({False, adds_in_32_bits(cpu_flags())}))
def test_no_sum_overflows(width: int, sign: int, wide_sums: bool) -> None:
    import torch

    layer = torch.nn.Linear(width, 32)
    with torch.no_grad():
        layer.weight.fill_(0.5 * sign)  # all of them the largest of their row, all neighbours
    rounded = _module_class()(layer, _Rounding(None), wide_sums)
    for tokens in (1, 3, 300):  # oneDNN multiplies them by other code
        x = torch.ones(tokens, width)
        x[:, 0] = 0  # the rest is at its highest level
        with torch.inference_mode():
            off = rounded(x) - layer(x)
        assert float(off.abs().max()) < 0.01 * width * 0.5, tokens


def test_a_cpu_with_vnni_rounds_weights_to_all_steps() -> None:
    import torch

    weight = torch.tensor([[0.5, 0.5, -1.0, 0.2], [0.1, -0.6, 0.4, 0.4]])
    assert (_scales(weight, wide_sums=True) * 127).tolist() == pytest.approx([1.0, 0.6])
    assert (_scales(weight, wide_sums=False) * 127).tolist() == pytest.approx([1.0, 0.8])


@given(hnp.arrays(np.float32, (4, 7), elements=st.floats(-1e3, 1e3, width=32)))
def test_neighbours_stay_under_the_limit_when_they_are_rounded(weight: np.ndarray) -> None:
    import torch

    scales = _scales(torch.from_numpy(weight), wide_sums=False)
    rounded = (torch.from_numpy(weight) / scales[:, None]).round().to(torch.int32)
    pairs = torch.nn.functional.pad(rounded, (0, 1)).unflatten(1, (-1, 2))
    for sums in (pairs.clamp(min=0).sum(2), -pairs.clamp(max=0).sum(2)):
        assert 255 * int(sums.max()) <= 32_767
    assert int(rounded.abs().max()) <= 127
