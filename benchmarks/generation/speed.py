"""How long texts take beside `generate`: `python -m benchmarks.generation.speed`.

Models of random weights. The first token of a prompt says how long its answer is, by a processor that
forbids the end before and allows nothing else then, the same for all. Lengths are log-normal: their
mean over the longest of 32 is about 0.35. Contestants take turns on one thread; processor time, so
that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.generation.equality import Quiet
from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.settings import GenerationSettings
from workers.engines.generating.base import GenerationRequest, Prompt
from workers.engines.stepwise.engine import StepwiseEngine

VOCABULARY, LENGTHS = 8_000, 100
"""The first `LENGTHS` tokens after the special ones say a length."""
PAD, END, START, FIRST = 0, 1, 2, 3
MEAN, SPREAD = 12.0, 0.5
"""Of the lengths' logarithm: the longest of 32 is then some three times the mean."""
SHARED_TOKENS, SHARED_NEW = 400, 50
"""Instructions that all prompts begin with, and the tokens that each of these prompts asks for."""
TOKENS = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": START}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("BartConfig", {
        "vocab_size": VOCABULARY, "d_model": 256, "encoder_layers": 3, "decoder_layers": 3,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 1024,
        "decoder_ffn_dim": 1024, "max_position_embeddings": 512, "forced_eos_token_id": None,
        "decoder_start_token_id": START, **TOKENS,
    }),
    "llama": ("LlamaConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 768,
        "max_position_embeddings": 512, **TOKENS,
    }),
}  # fmt: skip
Run = Callable[[], dict[int, int]]
"""Makes all answers; how many tokens each row's has."""


def lengths(rows: int, seed: int) -> np.ndarray:
    """Tokens of each answer, int64 `[rows]`, the end included, 2 to `LENGTHS` - 1."""
    drawn = np.random.default_rng(seed).lognormal(np.log(MEAN), SPREAD, rows)
    return np.clip(drawn.astype(np.int64), 2, LENGTHS - 1)


def prompts(rows: int, seed: int) -> list[Prompt]:
    """Prompts of 10 to 60 tokens, of which the first says the length of the answer."""
    random = np.random.default_rng(seed)
    found = []
    for at, new in enumerate(lengths(rows, seed).tolist()):
        words = random.integers(FIRST + LENGTHS, VOCABULARY, int(random.integers(10, 60)))
        ids = np.array([FIRST + new, *words], dtype=np.int32)
        found.append(Prompt(at, ids, "", at.to_bytes(16), LENGTHS))
    return found


def with_instructions(rows: int, seed: int) -> list[Prompt]:
    """Prompts that begin with the same 400 tokens and end with 10 to 60 of their own.

    All ask for `SHARED_NEW` tokens.
    """
    random = np.random.default_rng(seed)
    start = random.integers(FIRST + LENGTHS, VOCABULARY, SHARED_TOKENS)
    start[0] = FIRST + SHARED_NEW
    found = []
    for at in range(rows):
        words = random.integers(FIRST + LENGTHS, VOCABULARY, int(random.integers(10, 60)))
        ids = np.array([*start, *words], dtype=np.int32)
        found.append(Prompt(at, ids, "", at.to_bytes(16), LENGTHS))
    return found


def share(rows: Sequence[Prompt], size: int = 32) -> float:
    """The mean over the longest answer, of batches of that many rows."""
    new = [int(row.ids[0]) - FIRST for row in rows]
    batches = [new[at : at + size] for at in range(0, len(new), size)]
    return float(np.mean([np.mean(batch) / max(batch) for batch in batches]))


class EndsAsAsked:
    """A processor of logits: no end before the length that the prompt says, and nothing else then."""

    def __init__(self, wanted: Any, given: int) -> None:
        self._wanted, self._given = wanted, given

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        wanted = self._wanted.repeat_interleave(len(scores) // len(self._wanted))
        ends = input_ids.shape[1] - self._given + 1 >= wanted
        scores[:, END] = float("-inf")
        scores[ends] = float("-inf")
        scores[ends, END] = 0.0
        return scores


def engine_of(folder: Path, family: str, beams: int) -> StepwiseEngine:
    """The engine with a model of random weights, whose answers end as the prompts say."""
    import torch
    import transformers

    name, values = CONFIGS[family]
    config = getattr(transformers, name)(**values)
    auto = "Seq2SeqLM" if config.is_encoder_decoder else "CausalLM"
    torch.manual_seed(0)
    getattr(transformers, f"AutoModelFor{auto}").from_config(config).save_pretrained(folder)
    load = LoadRequest(str(folder), "cpu", "float32", None, {}, engine="transformers")
    stated = {"max_new_tokens": LENGTHS, "num_beams": beams, "early_stopping": True, **TOKENS}
    if config.is_encoder_decoder:
        stated["decoder_start_token_id"] = START
    settings = GenerationSettings(stated, {}, config.is_encoder_decoder)
    engine = StepwiseEngine()
    engine.load(GenerationRequest(load, settings, config, _Tokenizer(), 0))
    _end_as_asked(engine.model)
    return engine


def _end_as_asked(model: Any) -> None:
    real, is_pair = model._get_logits_processor, model.config.is_encoder_decoder

    def processors(*args: Any, **kwargs: Any) -> Any:
        found, ids = real(*args, **kwargs), kwargs["encoder_input_ids"]
        # padded on the left: the first token that is none
        wanted = ids.gather(1, (ids != PAD).int().argmax(dim=1, keepdim=True))[:, 0] - FIRST
        found.append(EndsAsAsked(wanted, kwargs["input_ids_seq_length"] if not is_pair else 1))
        return found

    model._get_logits_processor = processors


class _Tokenizer:
    """What the engine asks of a tokenizer; texts are not looked at."""

    pad_token_id = PAD

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return str(len(tokens))


def by_generate(engine: StepwiseEngine, rows: Sequence[Prompt], size: int, beams: int) -> Run:
    """`generate` over batches in this order, as transformers pads them."""
    import torch

    def run() -> dict[int, int]:
        found = {}
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            longest = max(len(row.ids) for row in batch)
            is_pair = engine.model.config.is_encoder_decoder
            ids = torch.full((len(batch), longest), PAD)
            for at, row in enumerate(batch):
                where = slice(0, len(row.ids)) if is_pair else slice(longest - len(row.ids), None)
                ids[at, where] = torch.from_numpy(row.ids.astype("int64"))
            out = engine.model.generate(
                ids, attention_mask=(ids != PAD).long(), max_new_tokens=LENGTHS, num_beams=beams
            )
            new = out[:, 1 if is_pair else longest :]
            for row, tokens in zip(batch, new.tolist(), strict=True):
                found[row.row] = tokens.index(END) + 1
        return found

    return run


def by_engine(engine: StepwiseEngine, rows: Sequence[Prompt]) -> Run:
    """Our steps, with the budget that they choose."""

    def run() -> dict[int, int]:
        answers = engine.generate(rows, Quiet(), engine.default_batch_tokens())
        return {answer.row: answer.n_generated for answer in answers}

    return run


def without_sharing(engine: StepwiseEngine, rows: Sequence[Prompt]) -> Run:
    """Our steps, with each prompt read whole."""
    run = by_engine(engine, rows)

    def whole() -> dict[int, int]:
        shared, engine._shared = engine._shared, None
        try:
            return run()
        finally:
            engine._shared = shared

    return whole


def measured(runs: dict[str, Run], rounds: int, wanted: dict[int, int]) -> dict[str, float]:
    """Median seconds of processor time of each, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.process_time()
            found = run()
            spent[name].append(time.process_time() - started)
            assert found == wanted, f"{name} has other lengths"
    return {name: median(values) for name, values in spent.items()}


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("bart", "llama", "instructions"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = prompts(asked.rows, 1)
    ordered = sorted(rows, key=lambda row: len(row.ids))
    wanted = {row.row: int(row.ids[0]) - FIRST for row in rows}
    print(f"{len(rows)} rows, mean over longest of 32: {share(rows):.2f}")
    for family, beams in (("bart", 4), ("llama", 1)):
        if asked.only in (None, family):
            with tempfile.TemporaryDirectory() as folder:
                engine = engine_of(Path(folder), family, beams)
            runs: dict[str, Run] = {"engine": by_engine(engine, rows)}
            runs["generate, 32"] = by_generate(engine, rows, 32, beams)
            runs["generate, 32, sorted"] = by_generate(engine, ordered, 32, beams)
            if beams == 1:
                runs["generate, 96, sorted"] = by_generate(engine, ordered, 96, beams)
                runs["generate, 8, sorted"] = by_generate(engine, ordered, 8, beams)
            _show(f"{family}, beams {beams}", measured(runs, asked.rounds, wanted))
    if asked.only in (None, "instructions"):
        _instructions(asked.rows, asked.rounds)


def _instructions(count: int, rounds: int) -> None:
    rows = with_instructions(count, 1)
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_of(Path(folder), "llama", 1)
    ordered = sorted(rows, key=lambda row: len(row.ids))
    runs: dict[str, Run] = {
        "engine": by_engine(engine, rows),
        "without sharing": without_sharing(engine, rows),
        "generate, 32, sorted": by_generate(engine, ordered, 32, 1),
    }
    found = measured(runs, rounds, dict.fromkeys(range(count), SHARED_NEW))
    _show(f"llama, {SHARED_TOKENS} shared tokens, {SHARED_NEW} new", found)


def _show(contest: str, found: dict[str, float]) -> None:
    for name, seconds in found.items():
        print(f"{contest}, {name}: {seconds:.2f} s, "
              f"{seconds / found['engine']:.2f} of the engine's", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
