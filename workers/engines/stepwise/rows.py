"""The rows that the model is running: their caches, and one forward pass for all of them.

`LoneRows` runs one cohort, as `generate` does. `JoinedRows` runs several cohorts of a decoder: each
prompt is read beside those of about its length, and padded on the left as its cache is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from workers.engines.generating.base import Answer
from workers.engines.stepwise.answers import Step
from workers.engines.stepwise.prompts import read_prompts
from workers.engines.stepwise.shared_attention import Beginning
from workers.engines.stepwise.start import Started


class Chooser(Protocol):
    """Chooses the next tokens of rows that started together: `Cohort` or `BeamCohort`."""

    @property
    def ids(self) -> Any: ...
    @property
    def width(self) -> int: ...
    def choose(self, logits: Any) -> Step: ...


class LoneRows:
    """One cohort at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.clear()

    def clear(self) -> None:
        """Drop all rows and their caches."""
        self._cohort: Chooser | None = None
        self._kwargs: dict[str, Any] = {}

    @property
    def width(self) -> int:
        """Number of rows in the model's batch."""
        return 0 if self._cohort is None else self._cohort.width

    def join(self, started: Started, cohort: Chooser) -> list[Answer]:
        """Start the cohort; no other may be running."""
        self._cohort, self._kwargs = cohort, started.kwargs
        model, config = self._model, started.config
        return self._after(model._prefill(started.ids, config, self._kwargs))

    def step(self) -> list[Answer]:
        """Add a token to each row; returns the answers of rows that have ended."""
        model, kwargs = self._model, self._kwargs
        assert self._cohort is not None
        given = model.prepare_inputs_for_generation(
            self._cohort.ids, next_sequence_length=1, **kwargs
        )
        return self._after(model(**given, return_dict=True))

    def _after(self, outputs: Any) -> list[Answer]:
        model, cohort = self._model, self._cohort
        assert cohort is not None
        self._kwargs = model._update_model_kwargs_for_generation(
            outputs, self._kwargs, is_encoder_decoder=model.config.is_encoder_decoder
        )
        width = cohort.width
        step = cohort.choose(outputs.logits[:, -1].float())
        if not cohort.width:
            self.clear()
        elif step.select is not None:
            self._select(step, width)
        return step.answers

    def _select(self, step: Step, width: int) -> None:
        """Keep the state of the rows that continue."""
        cache = self._kwargs["past_key_values"]
        # the encoder's cache is the same for all beams of a row
        own = cache if step.dropped else getattr(cache, "self_attention_cache", cache)
        own.reorder_cache(step.select)
        if step.dropped:
            self._kwargs = {
                name: _selected(value, step.select, width) for name, value in self._kwargs.items()
            }


class JoinedRows:
    """Several cohorts of a decoder in one batch; new ones may join at any time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.clear()

    def clear(self) -> None:
        """Drop all rows and their caches."""
        self._cohorts: list[Chooser] = []
        self._cache: Any = None
        self._lengths: Any = None
        """Tokens in the cache of each row, int64 `[rows]`."""
        self._beginning: Beginning | None = None
        self._begins: Any = None
        """Which rows have the beginning, bool `[rows]`."""

    @property
    def width(self) -> int:
        """Number of rows in the model's batch."""
        return sum(cohort.width for cohort in self._cohorts)

    def join(self, cohorts: Sequence[Chooser], beginning: Beginning | None = None) -> list[Answer]:
        """Read the prompts of cohorts and add them; returns the answers of rows that end at once.

        With a `beginning`, all prompts begin with its tokens; all that run together have the same
        one or none.
        """
        import torch

        ids = [cohort.ids for cohort in cohorts]
        logits, cache, lengths = read_prompts(self._model, ids, beginning)
        self._beginning = beginning or self._beginning
        begins = torch.full_like(lengths, beginning is not None, dtype=torch.bool)
        answers, select = _chosen(cohorts, logits)
        if not len(select):
            return answers
        if len(select) < len(lengths):
            cache.reorder_cache(select)
        if self._cache is None:
            self._cache, self._lengths, self._begins = cache, lengths[select], begins[select]
        else:
            merge_caches(self._cache, cache)
            self._lengths = torch.cat([self._lengths, lengths[select]])
            self._begins = torch.cat([self._begins, begins[select]])
        self._cohorts += [cohort for cohort in cohorts if cohort.width]
        return answers

    def step(self) -> list[Answer]:
        """Add a token to each row; returns the answers of rows that have ended."""
        import torch

        model, lengths, beginning = self._model, self._lengths, self._beginning
        tokens = torch.cat([cohort.ids[:, -1:] for cohort in self._cohorts])
        longest = self._cache.get_seq_length()
        places = torch.arange(longest + 1, device=tokens.device)
        mask = (places >= longest - lengths[:, None]).long()
        at = lengths if beginning is None else lengths + beginning.tokens * self._begins
        given = model.prepare_inputs_for_generation(
            tokens, next_sequence_length=1, past_key_values=self._cache, attention_mask=mask,
            position_ids=at[:, None], use_cache=True,
        )  # fmt: skip
        if beginning is not None:
            given["beginning"] = beginning.of(self._begins)
        outputs = model(**given, return_dict=True)
        self._lengths = lengths + 1
        return self._after(outputs.logits[:, -1].float())

    def _after(self, logits: Any) -> list[Answer]:
        answers, select = _chosen(self._cohorts, logits)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.width]
        if not self._cohorts:
            self.clear()
        elif len(select) < len(logits):
            self._keep(select)
        return answers

    def _keep(self, select: Any) -> None:
        self._cache.reorder_cache(select)
        self._lengths, self._begins = self._lengths[select], self._begins[select]
        most = int(self._lengths.max())
        for layer in self._cache.layers:  # cut what only a longer row needed
            layer.keys, layer.values = layer.keys[..., -most:, :], layer.values[..., -most:, :]


def _chosen(cohorts: Sequence[Chooser], logits: Any) -> tuple[list[Answer], Any]:
    """Add a token to each row of the cohorts; answers of those that ended, and the rows that stay."""
    import torch

    answers: list[Answer] = []
    selects, at = [], 0
    for cohort in cohorts:
        width = cohort.width
        step = cohort.choose(logits[at : at + width])
        answers += step.answers
        kept = torch.arange(width, device=logits.device) if step.select is None else step.select
        selects.append(kept + at)
        at += width
    return answers, torch.cat(selects)


def merge_caches(cache: Any, other: Any) -> None:
    """Append the rows of another cache to this one; the shorter is padded on the left."""
    import torch
    from torch.nn.functional import pad

    longest = max(cache.get_seq_length(), other.get_seq_length())
    for layer, more in zip(cache.layers, other.layers, strict=True):
        for name in ("keys", "values"):
            both = [getattr(it, name) for it in (layer, more)]
            filled = [pad(it, (0, 0, longest - it.shape[-2], 0)) for it in both]
            setattr(layer, name, torch.cat(filled))


def _selected(value: Any, select: Any, width: int) -> Any:
    """These rows of a tensor, or of all tensors in a model's output; other values unchanged."""
    import torch

    if isinstance(value, torch.Tensor):
        return value[select] if value.dim() and value.shape[0] == width else value
    if hasattr(value, "last_hidden_state"):
        kept = {name: _selected(it, select, width) for name, it in value.items()}
        return type(value)(**kept)
    return value
