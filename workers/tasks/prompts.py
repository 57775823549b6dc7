"""Texts to prompts: prefix or chat template, token ids, and what is done with those too long."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from headrace.tasks.contract import Encodings
from headrace.tasks.generation.chat_template import needs_template, no_template
from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import ConfigError, InvalidRow

ERROR, LEFT, RIGHT = "error", "truncate-left", "truncate-right"
TRIES = 8
"""How often a chat's text is made shorter until its prompt fits. Chosen: each try removes what is
too much, and a tokenizer joins few tokens where a text was cut."""


class Renderer(NamedTuple):
    """How a text becomes a prompt."""

    render: Callable[[str], str]
    adds_special: bool
    """Whether the tokenizer adds its special tokens; a chat template has its own."""
    is_chat: bool
    """The prompt ends with what begins an answer, and must not be cut there."""
    reads_json: bool = False
    """A text is a list of messages."""


def renderer_of(
    task: str, tokenizer: Any, params: Mapping[str, Any], settings: GenerationSettings
) -> Renderer:
    """The way of the job's task.

    Raises:
        ConfigError: a chat is asked for, and there is no template for it.
    """
    if task != "text-generation":
        return Renderer(lambda text: settings.prefix + text, True, False)
    template = params.get("chat_template")
    has_messages = params.get("messages_column") is not None
    asked = params.get("chat")
    has_template = template is not None or getattr(tokenizer, "chat_template", None) is not None
    needs = needs_template(params)
    if not (has_template if asked is None and not needs else needs):
        return Renderer(lambda text: text, True, False)
    if not has_template:
        raise no_template(str(getattr(tokenizer, "name_or_path", "")))

    def render(text: str) -> str:
        return str(
            tokenizer.apply_chat_template(
                chat_of(text, params),
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )

    return Renderer(render, False, True, has_messages)


class PromptRow(NamedTuple):
    """A prompt, as text and as token ids."""

    text: str
    ids: Sequence[int]
    is_cut: bool


def encodings_of(prompts: Sequence[PromptRow], extra: Sequence[Any]) -> Encodings:
    """The prompts as a task's encodings."""
    return Encodings(
        ids=np.array([token for it in prompts for token in it.ids], dtype=np.int32),
        offsets=np.array([0, *accumulate(len(it.ids) for it in prompts)], dtype=np.int64),
        truncated=np.array([it.is_cut for it in prompts], dtype=bool),
        extra=extra,
    )


class PromptEncoder:
    """Texts to token ids of prompts, at most `most` tokens each; thread-safe."""

    def __init__(self, tokenizer: Any, renderer: Renderer, *, most: int, on_long: str) -> None:
        """Raises ConfigError: a chat's messages cannot be cut."""
        if renderer.reads_json and on_long != ERROR:
            raise ConfigError("--on-long: messages are not cut; leave it at error")
        self._tokenizer, self._renderer = tokenizer, renderer
        self._most, self._on_long = most, on_long

    def __call__(self, texts: Sequence[str]) -> Encodings:
        """The prompts, `extra` with each as text.

        Raises:
            InvalidRow: one is too long, or its messages cannot be read.
        """
        prompts = self.rows(texts)
        return encodings_of(prompts, [it.text for it in prompts])

    def rows(self, texts: Sequence[str]) -> list[PromptRow]:
        """The prompts one by one. Raises as above."""
        prompts = [self._renderer.render(text) for text in texts]
        return [self._fitting(*row) for row in zip(texts, prompts, self._ids(prompts), strict=True)]

    def _fitting(self, text: str, prompt: str, ids: list[int]) -> PromptRow:
        if len(ids) > self._most:
            return PromptRow(*self._shorter(text, ids), True)
        if not ids:
            raise InvalidRow("the prompt has no tokens")
        return PromptRow(prompt, ids, False)

    def _ids(self, prompts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer(
            list(prompts), add_special_tokens=self._renderer.adds_special,
            return_attention_mask=False, return_token_type_ids=False, verbose=False,
        )  # fmt: skip
        return [list(ids) for ids in found["input_ids"]]

    def _shorter(self, text: str, ids: list[int]) -> tuple[str, list[int]]:
        """The prompt of the text with some of its tokens cut off at the side that was asked for."""
        if self._on_long == ERROR:
            raise InvalidRow(
                f"the prompt has {len(ids):,} tokens and the model has room for {self._most:,}: "
                "--on-long truncate-right or truncate-left cuts it"
            )
        words = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for _ in range(TRIES):
            over = len(ids) - self._most
            if over >= len(words):
                break
            words = words[over:] if self._on_long == LEFT else words[:-over]
            prompt = self._renderer.render(self._tokenizer.decode(words))
            (ids,) = self._ids([prompt])
            if len(ids) <= self._most:
                return prompt, ids
        raise InvalidRow(
            f"the prompt does not fit into {self._most:,} tokens, however much of the text is cut"
        )


def chat_of(text: str, params: Mapping[str, Any]) -> list[dict[str, str]]:
    """The chat of a row: its messages or its text as the user's, after the job's system prompt.

    Raises:
        InvalidRow: the row's messages cannot be read.
    """
    has_messages = params.get("messages_column") is not None
    messages = messages_in(text) if has_messages else [{"role": "user", "content": text}]
    system = params.get("system_prompt")
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def messages_in(text: str) -> list[dict[str, str]]:
    """The messages in a JSON array.

    Raises:
        InvalidRow: it is none, or a message lacks its role or content.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidRow(f"the messages are not JSON: {error}") from error
    if not isinstance(found, list) or not found:
        raise InvalidRow("the messages are no JSON array")
    for message in found:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise InvalidRow("a message has no role or no content")
    return found
