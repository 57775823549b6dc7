"""Runs `LLM.generate` of vLLM on given rows, once for each line that it reads; for `through_vllm`.

It is started by the Python of vLLM's environment, so it imports nothing of headrace. Prints seconds of
processor time and of the clock, and the tokens that were written, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    from vllm import LLM, SamplingParams

    model = LLM(**asked["load"])
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
    params = [
        SamplingParams(temperature=0.0, max_tokens=most, ignore_eos=True, detokenize=False)
        for most in asked["most"]
    ]
    for _ in sys.stdin:
        cpu, clock = time.process_time(), time.monotonic()
        found = model.generate(prompts, params, use_tqdm=False)
        took = {"cpu": time.process_time() - cpu, "clock": time.monotonic() - clock}
        tokens = sum(len(it.outputs[0].token_ids) for it in found)
        print("BENCH " + json.dumps({**took, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
