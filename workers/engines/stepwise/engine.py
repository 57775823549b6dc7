"""The engine `transformers`: models, processors and beam search of transformers, with our own loop.

`generate` runs a batch until its longest row has ended. Here a row is removed after its last token,
together with its cache. Rows of a decoder may join a running batch. With an encoder or with beams,
the next rows start when all have ended.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import groupby
from math import log
from typing import Any

from schemas.errors import (
    ConfigError,
    LeaseLost,
    ModelError,
    Stopped,
)
from workers.devices import device
from workers.engines.generating.base import Answer, GenerationRequest, Prompt, Watch
from workers.engines.generating.ending import Ending
from workers.engines.generating.failures import FailsByRow
from workers.engines.generating.memory import MOST_ROWS, budget_tokens
from workers.engines.generating.schedule import Schedule
from workers.engines.stepwise.beams import BeamCohort
from workers.engines.stepwise.cohort import Cohort
from workers.engines.stepwise.mask import grammar_for
from workers.engines.stepwise.probes import (
    can_join,
    can_read_together,
    can_share_a_start,
    padding_matters,
)
from workers.engines.stepwise.rows import Chooser, JoinedRows, LoneRows
from workers.engines.stepwise.shared_start import SharedStart
from workers.engines.stepwise.start import Started, start
from workers.models.load import load_model
from workers.models.tokenizer import special_token

READS_THE_PROMPT = ("encoder_repetition_penalty", "encoder_no_repeat_ngram_size")
"""Settings whose processors read the encoder's input, padding included."""

READS_THE_LENGTH = ("forced_eos_token_id", "exponential_decay_length_penalty")
"""Settings whose processors read the most tokens of an answer, which rows then share."""

NEAR = 1.3
"""Prompts of a decoder that are read together differ by this factor at most. Chosen: an eighth of
what is read is then padding, and 50 lengths from 10 to 60 tokens make 8 batches."""
SHORT = 8
"""Prompts up to this many tokens are read together. Chosen: a batch of its own costs more."""


class StepwiseEngine(FailsByRow):
    """See `workers.engines.generating.base.GeneratingEngine`."""

    follows_grammars = takes_first_tokens = takes_row_settings = True

    def load(self, request: GenerationRequest) -> None:
        asked, settings = request.load, request.settings
        if asked.dtype == "int8":
            raise ModelError("--dtype int8 is not for models that generate: use bfloat16")
        if settings.stop and settings.beams > 1:
            raise ConfigError("--stop and beams cannot both hold: give --num-beams 1")
        self._device, self._seed, self._beams = asked.device, request.seed, settings.beams
        auto_class = _auto_class(settings.is_encoder_decoder)
        self.model = load_model(asked, request.config, auto_class)
        self._config = _generation_config(settings.values)
        self.model.generation_config = self._config
        self._pad = special_token(self.model.config, request.tokenizer, "pad")
        self._grammar = grammar_for(request, self.model) if settings.grammar else None
        self._ending = Ending(request.tokenizer, settings.stop, settings.ends)
        self._one_most = self._beams > 1 or any(map(settings.values.get, READS_THE_LENGTH))
        self._most_rows = MOST_ROWS[device.kind_of(asked.device)]
        self._choose_ways(settings.values)

    def _choose_ways(self, values: Any) -> None:
        """Find out by trial how this model can be run without changing its results."""
        is_decoder = not self.model.config.is_encoder_decoder
        reads = any(values.get(name) for name in READS_THE_PROMPT)
        self.one_length = is_decoder or reads or padding_matters(self.model, self._pad)
        self.joins = is_decoder and self._beams == 1 and can_join(self.model, self._pad)
        self.reads_together = self.joins and can_read_together(self.model, self._pad)
        shares = self.reads_together and can_share_a_start(self.model, self._pad)
        self._shared = SharedStart(self.model) if shares else None

    def generate(
        self, prompts: Sequence[Prompt], watch: Watch, budget_tokens: int
    ) -> Iterator[Answer]:
        if self._shared is not None:
            self._shared.look_at(prompts)
        schedule = Schedule(
            prompts,
            budget_tokens=budget_tokens,
            most_rows=self._most_rows,
            costs=self._cost,
            alike=self._alike,
            joins=self.joins,
        )
        rows = JoinedRows(self.model) if self.joins else LoneRows(self.model)
        while not schedule.is_done():
            watch.check()
            started = schedule.admit()
            if started:
                watch.holding(schedule.running.keys())
            width = len(started) * self._beams or rows.width
            tokens = sum(len(prompt.ids) for prompt in started) or width
            began = time.monotonic()
            try:
                answers = self._join(rows, started) if started else self._step(rows)
            except (Stopped, LeaseLost):
                raise
            except Exception as error:
                rows.clear()
                yield from self.failed(error, schedule, watch)
                continue
            watch.stepped(rows=width, tokens=tokens)
            if started:
                watch.first_tokens(len(started), time.monotonic() - began)
            schedule.finish([answer.row for answer in answers])
            if answers:
                watch.holding(schedule.running.keys())
            yield from answers
        watch.holding(())

    def _join(self, rows: JoinedRows | LoneRows, prompts: list[Prompt]) -> list[Answer]:
        import torch

        with torch.inference_mode():
            self.model.generation_config = self._config_of(prompts[0])
            if isinstance(rows, LoneRows):
                started = start(self.model, prompts, self._pad, self._grammar)
                return rows.join(started, self._cohort(started))
            of_length = groupby(sorted(prompts, key=_length), key=_length)
            each = [
                start(self.model, list(some), self._pad, self._grammar) for _, some in of_length
            ]
            shared = self._shared
            with_start = shared is not None and shared.covers(prompts[0])  # as all that are alike
            beginning = shared.beginning() if shared is not None and with_start else None
            return rows.join([self._cohort(started) for started in each], beginning)

    def _cohort(self, started: Started) -> Chooser:
        if self._beams > 1:
            return BeamCohort(self.model, started, self._ending)
        own = started.prompts[0].settings
        ending = self._ending
        if own is not None:
            ending = Ending(ending.tokenizer, own.stop, own.ends)
        return Cohort(self.model, started, ending, self._seed)

    def _config_of(self, prompt: Prompt) -> Any:
        """How this prompt is answered, and all that start with it."""
        own = prompt.settings
        return self._config if own is None else _generation_config(own.values)

    def _step(self, rows: JoinedRows | LoneRows) -> list[Answer]:
        import torch

        with torch.inference_mode():
            return rows.step()

    def default_batch_tokens(self) -> int:
        return budget_tokens(self.model, self._device, device.threads_of(self._device))

    def _cost(self, prompt: Prompt) -> int:
        """Largest number of tokens in the row's caches."""
        return (self._own(prompt) + prompt.max_new_tokens) * self._beams

    def _alike(self, prompt: Prompt) -> Hashable:
        most = prompt.max_new_tokens if self._one_most else 0
        own = 0 if prompt.settings is None else id(prompt.settings)
        if self.reads_together:
            read = self._own(prompt)
            return most, own, read < len(prompt.ids), int(log(max(read, SHORT), NEAR))
        return most, own, len(prompt.ids) if self.one_length else 0

    def _own(self, prompt: Prompt) -> int:
        """Tokens that are read and held for this prompt alone."""
        return len(prompt.ids) if self._shared is None else self._shared.own_tokens(prompt)


def _length(prompt: Prompt) -> int:
    return len(prompt.ids)


def _auto_class(is_encoder_decoder: bool) -> Any:
    import transformers

    if is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForCausalLM


def _generation_config(settings: Mapping[str, Any]) -> Any:
    """These settings, without those of the model's folder; each prompt has its own length."""
    from transformers import GenerationConfig

    values = dict(settings)
    for name in ("max_length", "max_new_tokens"):
        values.pop(name, None)
    return GenerationConfig(**values)
