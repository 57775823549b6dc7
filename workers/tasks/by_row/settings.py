"""Texts with settings of their own to prompts: each row's length, sampling, seed and stop texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from headrace.tasks.contract import Encodings
from headrace.tasks.generation.row_settings import LENGTH, SEED, own_settings
from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import ConfigError, InvalidRow
from workers.tasks.by_row.own_prompt import OwnPrompt
from workers.tasks.prompts import PromptEncoder, PromptRow, encodings_of

KEPT = 1_024
"""Settings that are kept, so that rows of the same run together. Chosen: some kilobytes each."""


class SettingsEncoder:
    """Texts to prompts, each with the settings that its second text states; thread-safe."""

    def __init__(
        self,
        settings_with: Callable[[Mapping[str, Any]], GenerationSettings],
        room: int,
        encoder_of: Callable[[int], PromptEncoder],
    ) -> None:
        """`settings_with` gives the settings of a job with these options too, `room` is the tokens of
        prompt and answer together, and `encoder_of` makes the encoder of prompts so long at most."""
        self._room, self._encoder_of = room, encoder_of
        self._settings = lru_cache(KEPT)(lambda own: settings_with(dict(own)))

    def __call__(self, texts: Sequence[str], pairs: Sequence[str]) -> Encodings:
        """The prompts, `extra` with each as an `OwnPrompt`.

        Raises:
            InvalidRow: a row's settings cannot be used, or leave no room for its prompt.
        """
        own = [self._own(second) for second in pairs]
        alike: dict[int, list[int]] = {}
        for row, it in enumerate(own):
            alike.setdefault(self._most_prompt_tokens(it), []).append(row)
        found: dict[int, PromptRow] = {}
        for most, rows in alike.items():
            found |= zip(rows, self._encoder_of(most).rows([texts[r] for r in rows]), strict=True)
        prompts = [found[row] for row in range(len(texts))]
        return encodings_of(
            prompts, [it._replace(text=p.text) for it, p in zip(own, prompts, strict=True)]
        )

    def _own(self, second: str) -> OwnPrompt:
        given = own_settings(second)
        length, seed = given.pop(LENGTH, None), given.pop(SEED, None)
        try:
            settings = self._settings(tuple(sorted(given.items())))
        except ConfigError as error:
            raise InvalidRow(f"the row's settings: {error}") from error
        _check_together(settings)
        _check_length(length, settings)
        return OwnPrompt("", settings=settings, seed=seed, most_new=length)

    def _most_prompt_tokens(self, own: OwnPrompt) -> int:
        assert own.settings is not None
        length = own.most_new or own.settings.values.get(LENGTH) or 1
        if length >= self._room:
            raise InvalidRow(
                f"the model has room for {self._room:,} tokens, and {length:,} new ones leave none "
                "for a prompt"
            )
        return self._room - length


def _check_together(settings: GenerationSettings) -> None:
    """Check what the job's settings and a row's are together.

    Raises:
        InvalidRow: they contradict one another.
    """
    if settings.stop and (settings.beams > 1 or settings.grammar):
        other = "beams" if settings.beams > 1 else "a form of the answer"
        raise InvalidRow(f"the row's settings: stop and {other} cannot both hold")
    if settings.samples > 1 and not settings.values.get("do_sample"):
        raise InvalidRow("the row's settings: without sampling all samples would be equal")


def _check_length(length: int | None, settings: GenerationSettings) -> None:
    """Check that an answer has a length, and one that can be.

    Raises:
        InvalidRow: it has not.
    """
    least = settings.values.get("min_new_tokens") or 0
    if length is None and not settings.states_length:
        raise InvalidRow(f"neither the row nor the model says how long an answer may be: {LENGTH}")
    if length is not None and length < max(1, least):
        raise InvalidRow(f"the row's {LENGTH} is {length}: at least {max(1, least)}")
