"""The engine `ctranslate2`: gives batches of rows of similar length to CTranslate2.

Each batch runs in its own thread, so that a stop is noticed quickly. A greedy batch then ends at its
next token. A batch with beams runs to its end, and the next call waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace.settings import cache_folder
from schemas.errors import LeaseLost, ModelError, Stopped
from workers.devices import device
from workers.engines.ctranslate2.conversion import converted, vocabulary_of
from workers.engines.ctranslate2.decoding import decoding_of, least_new_tokens
from workers.engines.generating.base import Answer, GenerationRequest, Prompt, Watch
from workers.engines.generating.ending import Ending
from workers.engines.generating.failures import FailsByRow
from workers.engines.generating.memory import MOST_ROWS, budget_tokens
from workers.engines.generating.schedule import Schedule

LOOK_S = 0.25
"""Chosen: how often a running batch is interrupted for `check`."""
NEAR = 16
"""Prompts of a decoder whose lengths differ by fewer tokens may share a greedy batch; tokens beyond the
shortest prompt are read one by one. Chosen. With beams CTranslate2 4.8.5 gives some of them other texts,
so that there they have one length."""


@dataclass(frozen=True, slots=True)
class _Sized:
    """The configuration values that decide the size of the cache."""

    config: Any
    dtype: Any


class CTranslate2Engine(FailsByRow):
    """See `workers.engines.generating.base.GeneratingEngine`."""

    takes_first_tokens = True

    def __init__(self, cache: Path | None = None) -> None:
        """`cache` is the folder of converted models; default: in the user's cache folder."""
        self._cache = cache

    def load(self, request: GenerationRequest) -> None:
        import torch

        asked, self._settings = request.load, request.settings
        self._decoding = decoding_of(request.settings, asked.model_path)
        folder = converted(request, self._cache or cache_folder() / "ctranslate2")
        self._words = vocabulary_of(folder)
        self._ids = {word: at for at, word in enumerate(self._words)}
        self._device, self._is_pair = asked.device, request.settings.is_encoder_decoder
        self._model = self._opened(folder, asked.dtype)
        self._ending = Ending(request.tokenizer, request.settings.stop, self._decoding.ends)
        self._sized = _Sized(request.config, getattr(torch, _cache_dtype(asked.dtype)))
        self._most_rows = MOST_ROWS[device.kind_of(asked.device)]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ctranslate2")
        self._stop = threading.Event()

    def _opened(self, folder: Path, dtype: str) -> Any:
        import ctranslate2

        kind = ctranslate2.Translator if self._is_pair else ctranslate2.Generator
        try:
            return kind(
                str(folder),
                device=device.kind_of(self._device),
                compute_type=dtype,
                inter_threads=1,
                intra_threads=device.threads_of(self._device),
            )
        except (RuntimeError, ValueError) as error:
            if device.is_out_of_memory(error):
                raise
            raise ModelError(f"CTranslate2 cannot load {folder}: {error}") from error

    def generate(
        self, prompts: Sequence[Prompt], watch: Watch, budget_tokens: int
    ) -> Iterator[Answer]:
        schedule = Schedule(
            prompts, budget_tokens=budget_tokens, most_rows=self._most_rows,
            costs=self._cost, alike=self._alike, joins=False,
        )  # fmt: skip
        while not schedule.is_done():
            watch.check()
            batch = schedule.admit()
            watch.holding([prompt.row for prompt in batch])
            try:
                answers = self._answers(batch, watch)
            except (Stopped, LeaseLost):
                raise
            except Exception as error:
                yield from self.failed(error, schedule, watch)
                continue
            longest = max(len(p.ids) for p in batch) + max(a.n_generated for a in answers)
            watch.stepped(rows=len(batch), tokens=len(batch) * longest)
            schedule.finish([prompt.row for prompt in batch])
            yield from answers
        watch.holding(())

    def _answers(self, batch: list[Prompt], watch: Watch) -> list[Answer]:
        """The batch's answers; checks for a stop while it runs."""
        self._stop = threading.Event()
        running = self._thread.submit(self._searched, batch)
        try:
            found = _waited(running, watch)
        except BaseException:
            self._stop.set()  # a greedy search sees it, and ends
            raise
        return [self._answer(*it) for it in zip(batch, *found, strict=True)]

    def _searched(self, batch: list[Prompt]) -> tuple[list[list[int]], list[float]]:
        """Tokens of each answer, and the mean logarithm of their probabilities."""
        options = dict(
            self._decoding.options,
            return_scores=True,
            return_end_token=True,
            suppress_sequences=[self._text(it) for it in self._suppressed()] or None,
            end_token=sorted(self._decoding.ends) or None,
            callback=_until(self._stop) if self._decoding.options["beam_size"] == 1 else None,
        )
        given = [self._text(prompt.ids.tolist()) for prompt in batch]
        most = batch[0].max_new_tokens
        least = max(least_new_tokens(self._settings, len(prompt.ids)) for prompt in batch)
        if self._is_pair:
            prefixes = [self._text(self._prefix(prompt)) for prompt in batch]
            found = self._model.translate_batch(
                given, target_prefix=prefixes if all(prefixes) else None,
                max_input_length=0, max_decoding_length=most, min_decoding_length=least, **options,
            )  # fmt: skip
            tokens = [[self._ids[word] for word in it.hypotheses[0]] for it in found]
        else:
            found = self._model.generate_batch(
                given, include_prompt_in_result=False, max_length=most, min_length=least, **options
            )
            tokens = [list(it.sequences_ids[0]) for it in found]
        return tokens, [it.scores[0] for it in found]

    def _prefix(self, prompt: Prompt) -> Sequence[int]:
        return self._decoding.prefix if prompt.first is None else (prompt.first,)

    def _answer(self, prompt: Prompt, tokens: list[int], score: float) -> Answer:
        forced = self._decoding.forced_end
        if forced is not None and len(tokens) == prompt.max_new_tokens:
            tokens = [*tokens[:-1], forced]
        for n in range(1, len(tokens)) if self._ending.stop else ():
            if self._ending.has_stop(tokens[:n]):
                tokens = tokens[:n]
                break
        if not tokens:
            return Answer(prompt.row)
        answer = self._ending.answer(prompt, tokens, score * self._scale(tokens))
        # the score is of the tokens as they were found
        return replace(answer, logprob=None) if forced is not None or self._ending.stop else answer

    def _scale(self, tokens: list[int]) -> float:
        """What CTranslate2's score is multiplied by to get the sum over the tokens."""
        return float(len(tokens) ** self._decoding.options["length_penalty"])

    def _suppressed(self) -> list[Sequence[int]]:
        size = len(self._words)  # Marian's padding is no token of CTranslate2's
        return [it for it in self._decoding.suppressed if all(token < size for token in it)]

    def _text(self, ids: Sequence[int]) -> list[str]:
        return [self._words[i] for i in ids]

    def default_batch_tokens(self) -> int:
        return budget_tokens(self._sized, self._device, device.threads_of(self._device))

    def _cost(self, prompt: Prompt) -> int:
        return (len(prompt.ids) + prompt.max_new_tokens) * self._settings.beams

    def _alike(self, prompt: Prompt) -> Hashable:
        least = least_new_tokens(self._settings, len(prompt.ids))
        near = 1 if self._settings.beams > 1 else NEAR
        return prompt.max_new_tokens, least, 0 if self._is_pair else len(prompt.ids) // near


def _waited(running: Future[Any], watch: Watch) -> Any:
    while True:
        try:
            return running.result(LOOK_S)
        except TimeoutError:
            if running.done():  # the search's own
                raise
            watch.check()


def _until(stop: threading.Event) -> Callable[[Any], bool]:
    """For a thread of CTranslate2's: holding the engine there, it might free itself, and abort."""
    return lambda step: stop.is_set()


def _cache_dtype(dtype: str) -> str:
    """Precision of the keys and values that are kept."""
    return "float32" if dtype == "int8" else dtype
