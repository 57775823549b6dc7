"""How the benchmarks count and judge; that they run is tests/integration/benchmarks_of_ours/test_benchmarks.py."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fleet.span_cost import cost
from benchmarks.side_by_side.contestants import ALL, DEFAULT, WHOLE, chosen
from benchmarks.side_by_side.inputs import (
    mixed_lengths,
    split,
    take_corpus,
    take_lengths,
    take_sample,
)
from benchmarks.side_by_side.job import Job, batch_flops, first_only_flops, model_flops
from benchmarks.side_by_side.prepare import facts_of
from benchmarks.side_by_side.show import put_into, summarize
from benchmarks.side_by_side.targets import best_of, verdicts

MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
          "num_attention_heads": 12}  # fmt: skip


def test_operations_of_a_row_are_two_a_weight_and_those_of_attention() -> None:
    weights = 6 * (4 * 384**2 + 2 * 384 * 1536)
    assert model_flops(MINILM, [10]) == 2 * weights * 10 + 6 * 4 * 10 * 10 * 384


def test_a_gated_mlp_has_three_weights_and_shared_heads_fewer() -> None:
    decoder = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 2,
               "num_attention_heads": 4, "num_key_value_heads": 1, "hidden_act": "silu"}  # fmt: skip
    weights = 2 * 8 * 8 + 2 * 8 * 2 + 3 * 8 * 16
    assert model_flops(decoder, [1]) == 2 * weights + 4 * 8


def test_padding_costs_operations_and_a_short_last_layer_saves_some() -> None:
    assert batch_flops(MINILM, [[10, 10], [5]]) == model_flops(MINILM, [10, 10, 5])
    assert batch_flops(MINILM, [[10, 2]]) == model_flops(MINILM, [10, 10])
    saved = model_flops(MINILM, [20]) - first_only_flops(MINILM, [20])
    assert 0.12 < saved / model_flops(MINILM, [20]) < 1 / 6


def test_texts_that_are_too_few_come_again_and_stay_distinct(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["a", "b", "a", "", None, "too long"]}), tmp_path / "c.parquet"
    )
    take_corpus(tmp_path / "c.parquet", 5, tmp_path / "taken.parquet", longest=3)
    taken = pq.read_table(tmp_path / "taken.parquet")
    assert taken["text"].to_pylist() == ["a", "b", "a (2)", "b (2)", "a (3)"]
    assert taken["id"].to_pylist() == [0, 1, 2, 3, 4]


def test_a_sample_has_the_lengths_of_the_whole_in_its_order(tmp_path: Path) -> None:
    lengths = [n * 37 % 100 for n in range(100)]
    pq.write_table(pa.table({"id": list(range(100))}), tmp_path / "c.parquet")
    take_sample(tmp_path / "c.parquet", lengths, 10, tmp_path / "s.parquet")
    ids = pq.read_table(tmp_path / "s.parquet")["id"].to_pylist()
    assert ids == sorted(ids)
    assert sorted(lengths[i] for i in ids) == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]


def test_generated_rows_are_distinct_and_as_skewed_as_documentation(tmp_path: Path) -> None:
    lengths = sorted(mixed_lengths(20_000))
    assert 22 <= lengths[10_000] <= 26
    assert 0.045 < sum(n > 267 for n in lengths) / 20_000 < 0.055
    assert 0.015 < sum(n > 512 for n in lengths) / 20_000 < 0.021
    take_lengths([3] * 40, tmp_path / "c.parquet")
    texts = pq.read_table(tmp_path / "c.parquet")["text"].to_pylist()
    assert len(set(texts)) == len(texts) == 40


@pytest.mark.parametrize("rows", [3, 100])
def test_a_split_corpus_has_each_row_once(tmp_path: Path, rows: int) -> None:
    pq.write_table(pa.table({"id": list(range(rows))}), tmp_path / "c.parquet")
    split(tmp_path / "c.parquet", tmp_path / "parts", files=4)
    ids = pq.read_table(tmp_path / "parts")["id"].to_pylist()
    assert sorted(ids) == list(range(rows))


def test_a_familys_name_means_all_of_it() -> None:
    assert chosen(["pipeline", "headrace"]) == [
        "pipeline-1", "pipeline-8", "pipeline-32", "pipeline-128", "headrace"
    ]  # fmt: skip
    with pytest.raises(KeyError):
        chosen(["nobody"])
    assert set(DEFAULT) <= {*ALL, *WHOLE}


def _kept() -> dict[str, Any]:
    def run(rows: int, seconds: float) -> dict[str, float]:
        return {"rows": rows, "seconds": seconds, "tokens": rows * 10, "computed": rows * 20}

    return {
        "facts": {"rows": 100, "useful_flops": 100e9},
        "missing": {"openvino-2048": "not installed: openvino"},
        "runs": {
            "ceiling": [{"rows": 1, "seconds": 1.0, "flops": 200e9}],
            "headrace": [run(100, 1.0), run(100, 1.2), run(100, 0.8)],
            "pipeline-1": [run(10, 0.3)],
            "pipeline-8": [run(10, 0.5)],
            "bare-engines": [{"rows": 100, "seconds": 1.0}],
            "fleet": [{"rows": 100, "seconds": 1.25}],
        },
    }


def test_a_sample_is_held_against_the_whole_by_its_rows() -> None:
    table = summarize(_kept())
    assert table["headrace"]["rows_per_s"] == 100
    assert table["headrace"]["spread"] == 1.5
    assert table["pipeline-8"]["ratio"] == 5.0
    assert table["pipeline-8"]["padding_share"] == 0.5
    assert table["headrace"]["over_ceiling"] == 0.5
    assert table["openvino-2048"] == {"note": "not installed: openvino"}


def test_results_of_another_job_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MINILM))
    (tmp_path / "lengths.json").write_text("[3, 4, 5]")
    job = Job("c", str(tmp_path), "o", 1, cache=str(tmp_path))
    args = Namespace(corpus=None, longest=None, length=None, model=None, size="tiny", threads=1,
                     workers=1, sample_rows=8)  # fmt: skip
    facts = facts_of(job, args, None)
    assert facts["tokens"] == 12
    assert facts_of(job, args, facts) == facts
    with pytest.raises(SystemExit, match="these results hold for workers 2, not 1"):
        facts_of(job, args, facts | {"workers": 2})


def test_the_best_of_a_family_is_what_counts() -> None:
    table = summarize(_kept())
    assert best_of(table, ("pipeline",)) == "pipeline-1"
    assert best_of(table, ("openvino",)) is None
    judged = {v["what"]: (v["measured"], v["verdict"]) for v in verdicts(table)}
    assert judged["over the pipeline at its best (skewed text): pipeline-1"] == (3.0, "reached")
    assert judged["whole fleet over the bare engine: bare-engines"] == (0.8, "not reached")
    assert judged["over the pipeline at 8 (skewed text): pipeline-8"] == (5.0, "reached")
    assert not any("OpenVINO" in what for what in judged)


def test_results_replace_those_of_their_name_in_a_page() -> None:
    page = "a\n<!-- results x -->\nold\n<!-- end x -->\nb\n"
    assert put_into(page, "x", "new") == "a\n<!-- results x -->\nnew\n<!-- end x -->\nb\n"
    with pytest.raises(ValueError, match="substring"):
        put_into(page, "y", "new")


def test_what_spans_cost_is_the_share_of_throughput_within_each_round() -> None:
    off, on = [1.0, 2.0, 4.0, 1.0, 1.0], [1.25, 2.5, 5.0, 1.25, 1.25]
    assert cost(off, on)["median"] == pytest.approx(0.2), "a slow machine is slow for both"
    one_stalled = cost([1.0] * 9, [1.01] * 8 + [9.0])
    assert one_stalled["median"] == pytest.approx(0.0099)
