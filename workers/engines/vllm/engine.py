"""The engine `vllm`: gives rows to a process with vLLM one by one, and takes answers as they come.

vLLM does its own batching. A row that it refuses is an error; one that ends its process is searched as one
that ends a worker: its current rows are suspects, the chunk is tried again, and another process is
started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from headrace.process.logs import get_logger
from headrace.settings import load_settings
from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.vllm import TASK, check_vllm, named_python, vllm_version
from schemas.errors import ConfigError, EngineDied, InvalidRow, NotFinite
from schemas.records.engine import VLLM
from workers.devices import device
from workers.engines.generating.base import Answer, GenerationRequest, Prompt, Watch
from workers.engines.generating.ending import Ending
from workers.engines.generating.memory import CACHE_SHARE, bytes_per_token, free_bytes
from workers.engines.vllm.process import VllmProcess
from workers.engines.vllm.sampling import params_of

AHEAD = 1.25
"""Rows that vLLM has, for each that it computes in a step. Chosen: what waits there starts in the next step,
and a row that ends its process has fewer neighbours than with more."""
MOST_CACHED_ROWS = 256
"""Rows of full length that the cache on a CPU need not exceed. Chosen: as many as vLLM computes at once."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Row:
    """A row that vLLM has."""

    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Sized:
    """The configuration values that decide the size of the cache."""

    config: Any
    dtype: Any


class VllmEngine:
    """See `workers.engines.generating.base.GeneratingEngine`."""

    def __init__(self, python: str | None = None) -> None:
        """`python` is that of vLLM's environment; None: as the settings say."""
        self._python = python or load_settings().vllm_python
        self._process: VllmProcess | None = None
        self._given = 0
        """Rows given to vLLM, over all calls: each has its own number."""

    def load(self, request: GenerationRequest) -> None:
        version = vllm_version(named_python(self._python))
        check_vllm(VLLM, TASK, request.settings)
        self._settings, self._seed = request.settings, request.seed
        self._ending = Ending(request.tokenizer, request.settings.stop, request.settings.ends)
        self._threads = device.threads_of(request.load.device)
        self._load = arguments_of(request, self._threads)
        if f"vllm {self._started().facts.version}" != version:
            raise ConfigError(
                f"{self._python} has another vllm than {version} now: start the worker again"
            )

    def _started(self) -> VllmProcess:
        assert self._python is not None
        self._process = VllmProcess(self._python, self._load, self._threads)
        return self._process

    def generate(
        self, prompts: Sequence[Prompt], watch: Watch, budget_tokens: int
    ) -> Iterator[Answer]:
        process = self._running_process()
        waiting, rows = deque(prompts), dict[str, _Row]()
        try:
            while waiting or rows:
                watch.check()
                self._admit(process, waiting, rows, budget_tokens, watch)
                message = process.hear()
                for _ in range(message.get("steps", 0)):
                    watch.stepped(rows=len(rows), tokens=len(rows))
                yield from self._answers(process, message, rows)
            watch.holding(())
        except EngineDied:
            self._process = None
            raise
        finally:
            if rows and self._process is not None:
                self._abort(process, list(rows))

    def _running_process(self) -> VllmProcess:
        """The process; another one if it has ended since the last rows."""
        if self._process is not None and not self._process.is_running:
            log.warning("engine.died", reason="it ended between two chunks")
            self._process = None
        return self._process or self._started()

    def _admit(
        self, process: VllmProcess, waiting: deque[Prompt], rows: dict[str, _Row],
        budget_tokens: int, watch: Watch,
    ) -> None:  # fmt: skip
        """Give rows to vLLM while there is room; at least one."""
        most = max(1, int(process.facts.most_rows * AHEAD))
        tokens = sum(map(_tokens, rows.values()))
        new: dict[str, _Row] = {}
        while waiting and len(rows) + len(new) < most:
            tokens += _tokens(row := _Row(waiting[0]))
            if tokens > budget_tokens and (rows or new):
                break
            waiting.popleft()
            self._given += 1
            new[str(self._given)] = row
        if not new:
            return
        rows.update(new)
        watch.holding([row.prompt.row for row in rows.values()])
        for name, row in new.items():
            params = params_of(self._settings, row.prompt, self._seed)
            process.say({"add": name, "ids": row.prompt.ids.tolist(), "params": params})

    def _answers(
        self, process: VllmProcess, message: Mapping[str, Any], rows: dict[str, _Row]
    ) -> Iterator[Answer]:
        """The answers in a message; what is of rows that were given up is left out."""
        if message.get("refused") in rows:
            row = rows.pop(message["refused"])
            yield Answer(
                row.prompt.row, error=InvalidRow(f"vLLM refuses the prompt: {message['why']}")
            )
        stopped = []
        for name, tokens, logprobs in message.get("new", ()):
            if name in rows and self._has_stopped(rows[name], tokens, logprobs):
                stopped.append(name)
        ended = [it for it in message.get("done", ()) if it[0] in rows]
        if running := set(stopped) - {it[0] for it in ended}:
            self._abort(process, sorted(running))
        for name in stopped:
            row = rows.pop(name)
            yield self._answer(row, sum(row.logprobs), "stop")
        for name, tokens, logprob, reason in ended:
            if name in rows:
                row = rows.pop(name)
                row.tokens += tokens
                yield self._answer(row, sum(row.logprobs) if row.logprobs else logprob, reason)

    def _has_stopped(self, row: _Row, tokens: Sequence[int], logprobs: Sequence[float]) -> bool:
        """Add tokens up to one that ends a stop text."""
        for token, logprob in zip(tokens, logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            if self._ending.has_stop(row.tokens):
                return True
        return False

    def _answer(self, row: _Row, logprob: float | None, reason: str) -> Answer:
        prompt, tokens = row.prompt, row.tokens
        if reason not in ("stop", "length") or not tokens:
            return Answer(prompt.row, error=InvalidRow(f"vLLM ended the answer with {reason!r}"))
        if logprob is not None and not isfinite(logprob):
            return Answer(
                prompt.row, error=NotFinite("the model gave NaN or infinity for this row")
            )
        if reason == "length" and len(tokens) < prompt.max_new_tokens:
            return Answer(prompt.row, error=InvalidRow(
                f"the prompt has {len(prompt.ids):,} tokens, and vLLM has room for {len(tokens):,} of "
                f"the {prompt.max_new_tokens:,} that its answer may have"
            ))  # fmt: skip
        answer = self._ending.answer(prompt, tokens, logprob or 0.0)
        return answer if logprob is not None else replace(answer, logprob=None)

    def _abort(self, process: VllmProcess, names: list[str]) -> None:
        try:
            process.say({"abort": names})
        except EngineDied:
            self._process = None

    def default_batch_tokens(self) -> int:
        """All rows at full length: vLLM itself waits until its cache has room."""
        assert self._process is not None
        facts = self._process.facts
        return int(facts.most_rows * AHEAD) * facts.most_tokens

    def is_out_of_memory(self, error: BaseException) -> bool:
        return False

    def is_device_lost(self, error: BaseException) -> bool:
        return False


def arguments_of(request: GenerationRequest, threads: int) -> dict[str, Any]:
    """The arguments of vLLM's engine: the model as the job has it, and memory for the cache."""
    asked = request.load
    found: dict[str, Any] = {
        "model": asked.model_path,
        "skip_tokenizer_init": True,  # headrace's own ids go in, and ids come out
        "dtype": asked.dtype,
        "max_model_len": asked.max_length or -1,  # -1: as many tokens as the cache has room for
        "generation_config": "vllm",  # the job's settings are complete
        "seed": 0,
        "trust_remote_code": asked.trust_remote_code,
        "load_format": "auto" if asked.allow_pickle else "safetensors",
        "disable_log_stats": True,
    }
    if asked.device == device.CPU:
        found |= {"kv_cache_memory_bytes": cache_bytes(request, threads), "enforce_eager": True}
    return found


def cache_bytes(request: GenerationRequest, threads: int) -> int:
    """Memory for keys and values on a CPU: a share of what is free, or less if that is enough."""
    import torch

    sized = _Sized(request.config, getattr(torch, request.load.dtype))
    longest = _length_of(request.load, request.config)
    enough = bytes_per_token(sized) * longest * MOST_CACHED_ROWS
    return max(1 << 26, min(int(free_bytes(threads) * CACHE_SHARE[device.CPU]), enough))


def _length_of(asked: LoadRequest, config: Any) -> int:
    return int(asked.max_length or getattr(config, "max_position_embeddings", None) or 1 << 17)


def _tokens(row: _Row) -> int:
    return len(row.prompt.ids) + row.prompt.max_new_tokens
