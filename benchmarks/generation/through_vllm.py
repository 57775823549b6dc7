"""What the engine `vllm` costs beside `LLM.generate`: `python -m benchmarks.generation.through_vllm PYTHON`.

Both have one thread, the same model of random weights, the same arguments of vLLM and the same rows, whose
lengths are log-normal. They take turns. Processor time of vLLM's process is compared, since other work on
the machine counts little there; the worker's own is beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.generation.equality import Quiet
from benchmarks.generation.speed import CONFIGS, FIRST, prompts
from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.settings import GenerationSettings
from workers.engines.generating.base import GenerationRequest, Prompt
from workers.engines.vllm.engine import VllmEngine
from workers.engines.vllm.process import environment

BARE = Path(__file__).with_name("bare_vllm.py")


class _Tokenizer:
    """What the engine asks of a tokenizer; texts are not looked at."""

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return str(len(tokens))


def engine_of(folder: Path, python: str) -> VllmEngine:
    """The engine with a Llama of random weights, without end tokens."""
    import torch
    import transformers

    name, values = CONFIGS["llama"]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**values)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    engine = VllmEngine(python)
    load = LoadRequest(str(folder), "cpu", "float32", None, {}, engine="vllm")
    settings = GenerationSettings({"max_new_tokens": 100}, {}, False)
    engine.load(GenerationRequest(load, settings, config, _Tokenizer(), 0))
    return engine


def through_engine(engine: VllmEngine, rows: Sequence[Prompt]) -> dict[str, float]:
    """Seconds of vLLM's process, of this one and of the clock, and tokens written."""
    assert engine._process is not None
    process = psutil.Process(engine._process.number)
    before, own, clock = process.cpu_times(), time.process_time(), time.monotonic()
    answers = list(engine.generate(rows, Quiet(), engine.default_batch_tokens()))
    after = process.cpu_times()
    return {
        "cpu": after.user + after.system - before.user - before.system,
        "own": time.process_time() - own,
        "clock": time.monotonic() - clock,
        "tokens": sum(answer.n_generated for answer in answers),
    }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="of vLLM's environment")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [replace(row, max_new_tokens=int(row.ids[0]) - FIRST) for row in prompts(asked.rows, 1)]
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_of(Path(folder), asked.python)
        bare = subprocess.Popen(
            [asked.python, str(BARE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment(asked.python, 1),
        )  # fmt: skip
        assert bare.stdin is not None
        given = {
            "load": engine._load, "prompts": [row.ids.tolist() for row in rows],
            "most": [row.max_new_tokens for row in rows],
        }  # fmt: skip
        bare.stdin.write(json.dumps(given) + "\n")
        found: dict[str, list[dict[str, float]]] = {"engine": [], "bare": []}
        for round_ in range(asked.rounds + 1):  # the first warms up
            ours = through_engine(engine, rows)
            theirs = _asked(bare)
            assert ours["tokens"] == theirs["tokens"] == sum(row.max_new_tokens for row in rows)
            if round_:
                found["engine"].append(ours)
                found["bare"].append(theirs)
        bare.stdin.close()
        bare.wait()
    _show(found)


def _asked(bare: Any) -> dict[str, float]:
    bare.stdin.write("\n")
    bare.stdin.flush()
    for line in bare.stdout:
        if line.startswith("BENCH "):
            answer: dict[str, float] = json.loads(line.removeprefix("BENCH "))
            return answer
    raise RuntimeError("LLM.generate ended without an answer")


def _show(found: dict[str, list[dict[str, float]]]) -> None:
    middle = {
        name: {key: median(it[key] for it in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    for name, it in middle.items():
        print(name, ", ".join(f"{key} {value:.2f}" for key, value in it.items()))
    for key in ("cpu", "clock"):
        print(f"{key}: {middle['bare'][key] / middle['engine'][key]:.3f} of bare vLLM's speed")


if __name__ == "__main__":
    main()
