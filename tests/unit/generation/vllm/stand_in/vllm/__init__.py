"""A stand-in for vLLM: the few calls that headrace's program makes, without a model.

A row's next token is `next_token` of the last. Some tokens of a prompt do what happens at night.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from .sampling_params import RequestOutputKind

KILLS, REFUSED, RAISES, NO_NUMBER, ENDLESS = 28, 29, 30, 31, 32
"""In a prompt, but not in an answer: ends the process at its step, is refused, ends the step in an error,
has no probability, has no end."""
MOST_TOKENS, MOST_ROWS, LOGPROB = 64, 4, -0.5


def next_token(token: int) -> int:
    return 3 + (token * 7 + 1) % 30


@dataclass
class SamplingParams:
    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: list[int] = field(default_factory=list)
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    detokenize: bool = True
    logprobs: int | None = None
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE


@dataclass
class EngineArgs:
    model: str
    skip_tokenizer_init: bool = False
    dtype: str = "auto"
    max_model_len: int | None = None
    generation_config: str = "auto"
    seed: int = 0
    trust_remote_code: bool = False
    load_format: str = "auto"
    disable_log_stats: bool = False
    kv_cache_memory_bytes: int | None = None
    enforce_eager: bool = False


@dataclass
class _Row:
    ids: list[int]
    params: SamplingParams
    new: list[int] = field(default_factory=list)


class LLMEngine:
    def __init__(self, args: EngineArgs) -> None:
        if args.model.endswith("broken"):
            raise ValueError("no weights in this folder")
        most = MOST_TOKENS if args.max_model_len == -1 else args.max_model_len
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=most),
            scheduler_config=SimpleNamespace(max_num_seqs=MOST_ROWS),
        )
        self._most, self._rows = most or MOST_TOKENS, dict[str, _Row]()

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> LLMEngine:
        print("loading", flush=True)
        return cls(args)

    def has_unfinished_requests(self) -> bool:
        return bool(self._rows)

    def add_request(self, request_id: str, prompt: dict[str, Any], params: SamplingParams) -> str:
        ids = prompt["prompt_token_ids"]
        if REFUSED in ids or len(ids) >= self._most:
            raise ValueError(f"a prompt of {len(ids)} tokens")
        self._rows[request_id] = _Row(ids, params)
        return f"{request_id}-0a1b2c3d"

    def abort_request(self, request_ids: list[str]) -> None:
        print("aborted", len([self._rows.pop(it) for it in request_ids]), flush=True)

    def step(self) -> list[Any]:
        print("step", len(self._rows), flush=True)
        return [out for name in list(self._rows) if (out := self._one(name)) is not None]

    def _one(self, name: str) -> Any:
        row = self._rows[name]
        if KILLS in row.ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISES in row.ids:
            raise RuntimeError("device-side assert")
        row.new.append(next_token((row.new or row.ids)[-1]))
        reason = self._reason(row)
        if reason is not None:
            del self._rows[name]
        is_delta = row.params.output_kind is RequestOutputKind.DELTA
        if reason is None and not is_delta:
            return None
        logprob = float("nan") if NO_NUMBER in row.ids else LOGPROB
        tokens = row.new[-1:] if is_delta else row.new
        answer = SimpleNamespace(
            token_ids=tokens,
            logprobs=[{token: SimpleNamespace(logprob=logprob)} for token in tokens],
            cumulative_logprob=logprob * len(row.new),
            finish_reason=reason,
        )
        return SimpleNamespace(request_id=name, finished=reason is not None, outputs=[answer])

    def _reason(self, row: _Row) -> str | None:
        if ENDLESS in row.ids:
            return None
        is_end = row.new[-1] in row.params.stop_token_ids
        if is_end and len(row.new) > row.params.min_tokens:
            return "stop"
        is_full = len(row.ids) + len(row.new) >= self._most
        return "length" if is_full or len(row.new) >= row.params.max_tokens else None
