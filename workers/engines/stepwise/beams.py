"""Beam search for rows that started together; as in `generate`, but a row that has ended leaves.

The arithmetic is in methods of transformers' `GenerationMixin`, which work row by row. Source:
transformers 5.23, `GenerationMixin._beam_search`.
"""

from __future__ import annotations

from typing import Any

from workers.engines.generating.base import Answer
from workers.engines.generating.ending import Ending
from workers.engines.stepwise.answers import Step, left_of, not_finite
from workers.engines.stepwise.start import Started, processors_of

NEVER = -1e9
"""The score of an unused beam, as in transformers."""
PER_ROW = ("sequences", "running", "running_scores", "scores", "finished", "improvable", "parents",
           "running_parents")  # fmt: skip


class BeamCohort:
    """Rows of equal length, with `beams` sequences each; each step adds a token."""

    def __init__(self, model: Any, started: Started, ending: Ending) -> None:
        self._model, self._started, self._ending = model, started, ending
        self.prompts = started.prompts
        self._config = started.config
        self._beams = int(self._config.num_beams)
        self._encoder_ids = started.encoder_ids
        self._processors = started.processors
        self._given = self._length = int(started.ids.shape[1])
        self._most = self._given + self.prompts[0].max_new_tokens
        self._begin(started.ids)

    def _begin(self, ids: Any) -> None:
        import torch

        rows, beams, device = len(self.prompts), self._beams, ids.device
        self._ends = torch.tensor(sorted(self._ending.ends), device=device)
        self.sequences = torch.zeros((rows, beams, self._most), dtype=torch.long, device=device)
        self.sequences[:, :, : self._given] = ids.view(rows, beams, -1)
        self.running = self.sequences.clone()
        # all beams are equal at the start, so only the first may be continued
        self.running_scores = torch.zeros((rows, beams), device=device)
        self.running_scores[:, 1:] = NEVER
        self.scores = torch.full((rows, beams), NEVER, device=device)
        self.finished = torch.zeros((rows, beams), dtype=torch.bool, device=device)
        self.improvable = torch.ones((rows, 1), dtype=torch.bool, device=device)
        steps = (rows, beams, self._most - self._given)
        self.running_parents = torch.full(steps, -1, dtype=torch.int32, device=device)
        self.parents = self.running_parents.clone()
        # twice as many candidates: enough are left if all of the first half end
        self._tops = max(2, 1 + len(self._ends)) * beams
        self._first = torch.arange(self._tops, device=device) < beams

    @property
    def ids(self) -> Any:
        """Tokens of the decoder so far, int64 `[rows × beams, tokens]`."""
        return self.running[:, :, : self._length].flatten(0, 1)

    @property
    def width(self) -> int:
        """Number of rows in the model's batch: the rows times their beams."""
        return len(self.prompts) * self._beams

    def choose(self, logits: Any) -> Step:
        """Add a token to each beam, from logits, float32 `[rows × beams, vocabulary]`."""
        import torch

        rows, config, model = len(self.prompts), self._config, self._model
        finite = torch.isfinite(logits.logsumexp(dim=-1)).view(rows, -1).all(dim=1)
        log_probs = self._processors(self.ids, torch.log_softmax(logits, dim=-1))
        log_probs = log_probs.view(rows, self._beams, -1) + self.running_scores[:, :, None]
        scores, sequences, parents = model._get_top_k_continuations(
            accumulated_log_probs=log_probs.flatten(1), running_sequences=self.running,
            running_beam_indices=self.running_parents, cur_len=self._length,
            decoder_prompt_len=self._given, do_sample=False, beams_to_keep=self._tops,
            num_beams=self._beams, batch_size=rows,
        )  # fmt: skip
        ends = torch.isin(sequences[:, :, self._length], self._ends)
        ends = ends | (self._length + 1 >= self._most)
        (self.running, self.running_scores, self.running_parents) = (
            model._get_running_beams_for_next_iteration(
                topk_log_probs=scores, topk_running_sequences=sequences,
                topk_running_beam_indices=parents, next_token_hits_stopping_criteria=ends,
                num_beams=self._beams,
            )
        )  # fmt: skip
        (self.sequences, self.scores, self.parents, self.finished) = model._update_finished_beams(
            sequences=self.sequences, topk_running_sequences=sequences, beam_scores=self.scores,
            topk_log_probs=scores, beam_indices=self.parents, topk_running_beam_indices=parents,
            is_early_stop_heuristic_unsatisfied=self.improvable, is_sent_finished=self.finished,
            next_token_hits_stopping_criteria=ends, top_num_beam_mask=self._first,
            num_beams=self._beams, cur_len=self._length, decoder_prompt_len=self._given,
            length_penalty=config.length_penalty, early_stopping=config.early_stopping,
        )  # fmt: skip
        select = self.running_parents[..., self._length - self._given].flatten().long()
        self._length += 1
        self.improvable = model._check_early_stop_heuristic(
            is_early_stop_heuristic_unsatisfied=self.improvable,
            running_beam_scores=self.running_scores, beam_scores=self.scores,
            is_sent_finished=self.finished, cur_len=self._length, max_length=self._most,
            decoder_prompt_len=self._given, early_stopping=config.early_stopping,
            length_penalty=config.length_penalty,
        )  # fmt: skip
        return self._without_ended(ends, finite, select)

    def _without_ended(self, ends: Any, finite: Any, select: Any) -> Step:
        """Remove the rows that `generate` would end if each ran alone."""
        import torch

        is_closed = self.finished.all(dim=1) & (self._config.early_stopping is True)
        done = (~self.improvable[:, 0] | is_closed | ends.all(dim=1)).tolist()
        gone: dict[int, Answer] = {}
        for at, (prompt, is_finite) in enumerate(zip(self.prompts, finite.tolist(), strict=True)):
            if not is_finite:
                gone[at] = not_finite(prompt)
            elif done[at]:
                gone[at] = self._best(at)
        if not gone:
            return Step([], select, False)
        kept = torch.tensor(left_of(self.prompts, gone), dtype=torch.long, device=select.device)
        select = select.view(len(self.prompts), -1)[kept].flatten()
        self._keep(kept)
        return Step(list(gone.values()), select, True)

    def _best(self, at: int) -> Answer:
        new = int((self.parents[at, 0] >= 0).sum())
        tokens = self.sequences[at, 0, self._given : self._given + new].tolist()
        logprob = float(self.scores[at, 0]) * new**self._config.length_penalty
        return self._ending.answer(self.prompts[at], tokens, logprob)

    def _keep(self, kept: Any) -> None:
        self.prompts = [self.prompts[at] for at in kept.tolist()]
        for name in PER_ROW:
            setattr(self, name, getattr(self, name)[kept])
        self._encoder_ids = self._encoder_ids[kept]
        if self.prompts:
            self._processors = processors_of(self._model, self._started, self._encoder_ids)
