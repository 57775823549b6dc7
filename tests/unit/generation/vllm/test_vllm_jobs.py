"""Which jobs `--engine vllm` takes, what a row is asked with, and how its death is recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.coordination.attempts import retry_decision, suspect_rows
from headrace.coordination.leases import FORWARD, READING, Mark
from headrace.tasks.generation.engines import EngineName, engine_named, version_here, with_form
from headrace.tasks.generation.settings import GenerationSettings
from headrace.tasks.generation.vllm import check_vllm, vllm_version
from schemas.errors import ConfigError, EngineDied, ExitCode, MissingExtra
from tests.unit.generation.vllm.environment import VERSION, python_with_vllm, python_without_vllm
from workers.engines.generating.base import Prompt
from workers.engines.vllm.sampling import params_of, row_seed
from workers.execution.attempt_ends import failed_attempt

PROMPT = Prompt(0, np.arange(5, dtype=np.int32), "", b"k" * 16, 20)


def settings(**values: Any) -> GenerationSettings:
    known = {"max_new_tokens": 20, "eos_token_id": [2, 1], **values}
    return GenerationSettings(known, dict.fromkeys(known, "generation_config.json"), False)


def test_the_version_is_that_of_the_other_python(tmp_path: Path) -> None:
    python = python_with_vllm(tmp_path)
    assert engine_named("vllm", vllm_python=python) == EngineName("vllm", f"vllm {VERSION}")
    assert version_here("vllm", vllm_python=python) == f"vllm {VERSION}"
    assert engine_named("vllm").version is None, "a worker of another machine may have it"
    assert version_here("vllm") is None


def test_a_python_without_vllm_is_refused_with_words_and_a_code(tmp_path: Path) -> None:
    with pytest.raises(
        MissingExtra, match=r"it has no vllm: .*/python -m pip install vllm"
    ) as caught:
        vllm_version(python_without_vllm(tmp_path / "a"))
    assert caught.value.exit_code == ExitCode.MISSING_EXTRA
    with pytest.raises(ConfigError, match="none: No such file") as wrong:
        vllm_version(str(tmp_path / "none"))
    assert wrong.value.exit_code == ExitCode.CONFIG
    with pytest.raises(ConfigError, match="no Python that runs"):
        vllm_version("/bin/false")
    assert version_here("vllm", vllm_python=str(tmp_path / "none")) is None


REFUSED: dict[str, dict[str, Any]] = {
    "num_beams": {"num_beams": 4},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 3},
    "bad_words_ids": {"bad_words_ids": [[3]]},
    "typical_p": {"typical_p": 0.5, "do_sample": True},
    "temperature": {"temperature": 2.5, "do_sample": True},
    "min_p": {"min_p": 0.1, "top_p": 0.5, "do_sample": True},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_vllm_lacks_is_refused_with_what_asks_for_it(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"generation_config.json asks for {name} = .*--engine tr"
    ):
        check_vllm("vllm", "text-generation", settings(**REFUSED[name]))
    check_vllm("transformers", "text-generation", settings(**REFUSED[name]))


def test_a_task_with_an_encoder_and_a_given_form_are_refused() -> None:
    with pytest.raises(ConfigError, match="is for --task text-generation"):
        check_vllm("vllm", "summarization", None)
    with pytest.raises(ConfigError, match="cannot follow --schema"):
        with_form(engine_named("vllm"), {"choices": '["a","b"]'})


def test_neutral_settings_are_taken() -> None:
    neutral = {"num_beams": 1, "typical_p": 1.0, "length_penalty": 2.0, "bad_words_ids": []}
    check_vllm("vllm", "text-generation", settings(**neutral))
    check_vllm("vllm", "text-generation", settings(temperature=0.01, top_p=0.9, min_p=0.0))


def test_a_greedy_row_is_asked_for_with_the_jobs_own_ends() -> None:
    found = params_of(settings(repetition_penalty=1.2, min_length=9), PROMPT, 0)
    assert found == {
        "max_tokens": 20, "min_tokens": 4, "ignore_eos": True, "stop_token_ids": [1, 2],
        "temperature": 0.0, "repetition_penalty": 1.2, "watched": False,
    }  # fmt: skip


def test_a_sampled_row_has_what_transformers_would_take_and_a_seed_of_its_own() -> None:
    found = params_of(settings(do_sample=True, top_p=0.9), PROMPT, 5)
    assert (found["temperature"], found["top_p"], found["top_k"], found["min_p"]) == (1, 0.9, 50, 0)
    assert found["seed"] == row_seed(5, PROMPT.key)
    assert 0 <= found["seed"] < 2**62
    assert len({row_seed(5, b"a"), row_seed(5, b"b"), row_seed(6, b"a")}) == 3


def test_the_default_of_top_k_is_that_of_transformers() -> None:
    from transformers import GenerationConfig

    assert GenerationConfig._get_default_generation_params()["top_k"] == 50


def test_a_death_is_recorded_as_a_workers_with_the_rows_in_hand() -> None:
    mark = Mark("a", "w", stage=FORWARD, rows=(4, 5, 6, 7))
    died = failed_attempt(0, mark, EngineDied("vLLM's process ended with signal 9"), "w", 0.0)
    assert (died.cause, died.rows, died.retryable) == ("worker_lost", (4, 5, 6, 7), True)
    assert suspect_rows([died], 9).suspects == {4, 5, 6, 7}
    assert retry_decision([died], 9, 3, 0.0).wait_s == 0
    alone = [
        failed_attempt(0, Mark("b", "w", stage=FORWARD, rows=(5,)), EngineDied("x"), "w", 0.0)
    ] * 2
    assert suspect_rows(alone, 9).poison == {5: "worker_lost"}


def test_a_death_before_any_row_makes_no_row_a_suspect() -> None:
    died = failed_attempt(0, Mark("a", "w", stage=READING), EngineDied("x"), "w", 0.0)
    assert suspect_rows([died], 9).groups == ()
    assert retry_decision([died] * 3, 9, 3, 0.0).parked == "worker_lost"


def test_a_python_of_the_path_is_found_too() -> None:
    with pytest.raises(MissingExtra):
        vllm_version(sys.executable)
