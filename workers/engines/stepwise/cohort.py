"""Greedy search or sampling for rows that started together: the next tokens, and which rows end."""

from __future__ import annotations

from typing import Any

from workers.engines.generating.base import Answer, Prompt
from workers.engines.generating.ending import Ending
from workers.engines.stepwise.answers import Step, left_of, not_finite
from workers.engines.stepwise.noise import draw, stream_of
from workers.engines.stepwise.start import Started, processors_of


class Cohort:
    """Rows of equal length; each step adds a token."""

    def __init__(self, model: Any, started: Started, ending: Ending, seed: int) -> None:
        import torch

        self._model, self._started, self._ending, self._seed = model, started, ending, seed
        self.prompts = started.prompts
        self.ids = started.ids
        """Tokens of the decoder so far, int64 `[rows, tokens]`."""
        self._encoder_ids = started.encoder_ids
        self._processors = started.processors
        self._given = int(started.ids.shape[1])
        self._ends = torch.tensor(sorted(ending.ends), device=self.ids.device)
        self._logprobs = torch.zeros(len(self.prompts), device=self.ids.device)

    @property
    def width(self) -> int:
        """Number of rows in the model's batch."""
        return int(self.ids.shape[0])

    def choose(self, logits: Any) -> Step:
        """Add a token to each row, from logits, float32 `[rows, vocabulary]`."""
        import torch

        norms = logits.logsumexp(dim=-1)
        scores = self._processors(self.ids, logits.clone())
        if self._started.config.do_sample:
            tokens = draw(scores, [self._stream(prompt) for prompt in self.prompts])
        else:
            tokens = scores.argmax(dim=-1)
        stuck = self._stuck(scores)
        before = self._logprobs
        self._logprobs = before + logits.gather(1, tokens[:, None])[:, 0] - norms
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        return self._without_ended(tokens, norms, {at: float(before[at]) for at in stuck})

    def _stream(self, prompt: Prompt) -> int:
        seed = self._seed if prompt.seed is None else prompt.seed
        return stream_of(seed, prompt.key, self.ids.shape[1] - self._given)

    def _stuck(self, scores: Any) -> list[int]:
        """Indices of the rows for which the grammar allows no token that the model has."""
        if self._started.mask is None:
            return []
        return list((scores == float("-inf")).all(dim=1).nonzero()[:, 0].tolist())

    def _without_ended(self, tokens: Any, norms: Any, stuck: dict[int, float]) -> Step:
        """Remove the rows that have ended; `stuck` has the log probabilities of those without a token."""
        import torch

        ended = torch.isin(tokens, self._ends).tolist()
        finite = torch.isfinite(norms).tolist()
        length = self.ids.shape[1] - self._given
        gone: dict[int, Answer] = {}
        for at, prompt in enumerate(self.prompts):
            is_full = length >= prompt.max_new_tokens
            if not finite[at]:
                gone[at] = not_finite(prompt)
            elif at in stuck:
                new = self.ids[at, self._given : -1].tolist()
                gone[at] = self._ending.cut(prompt, new, stuck[at])
            elif ended[at] or is_full or self._ending.stop:
                new = self.ids[at, self._given :].tolist()
                if ended[at] or is_full or self._ending.has_stop(new):
                    gone[at] = self._ending.answer(prompt, new, float(self._logprobs[at]))
        if not gone:
            return Step([], None, False)
        select = torch.tensor(left_of(self.prompts, gone), dtype=torch.long, device=self.ids.device)
        self._keep(select)
        return Step(list(gone.values()), select, True)

    def _keep(self, select: Any) -> None:
        self.prompts = [self.prompts[at] for at in select.tolist()]
        self.ids, self._logprobs = self.ids[select], self._logprobs[select]
        self._encoder_ids = self._encoder_ids[select]
        if self.prompts:
            self._processors = processors_of(self._model, self._started, self._encoder_ids)
