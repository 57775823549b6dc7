"""Asks for the answers of many rows at once, a few requests at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headrace.tasks.generation.answer import Answer, FinishReason, Watch
from schemas.errors import EndpointAway, InvalidRow, ModelError
from workers.engines.endpoint.client import Client, Ended, words_of

LOOK_S = 0.25
"""Chosen: how often a stop is looked for while all wait."""
MOST_COUNT = 2**31 - 1
"""Required: what the columns of counts hold."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A request."""

    row: int
    messages: Sequence[Mapping[str, Any]]
    more: Mapping[str, Any]
    """Parameters of this row alone."""


class EndpointEngine:
    """The answers of one model behind an API."""

    def __init__(self, client: Client, asked: Mapping[str, Any]) -> None:
        """`asked` is what all requests have: the model and its parameters."""
        self._client, self._asked = client, asked

    def generate(self, chats: Sequence[Chat], watch: Watch) -> Iterator[Answer]:
        """An answer or an error for each, in any order.

        Raises:
            Stopped, LeaseLost: from `watch.check`; requests under way are left to themselves.
            EndpointAway, ModelError: the API answers no row.
        """
        waiting = list(reversed(chats))
        running: set[int] = set()
        done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._client.stop = stop = threading.Event()
        try:
            while waiting or running:
                watch.check()
                while waiting and len(running) < self._client.connections:
                    chat = waiting.pop()
                    running.add(chat.row)
                    # not of a pool: a process that ends waits for those
                    threading.Thread(
                        target=self._answer, args=(chat, stop, done), daemon=True
                    ).start()
                watch.holding(running)
                try:
                    answer = done.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                if isinstance(answer.error, EndpointAway | ModelError):
                    raise answer.error
                running.discard(answer.row)
                watch.stepped(rows=1, tokens=(answer.n_prompt or 0) + answer.n_generated)
                yield answer
            watch.holding(())
        finally:
            stop.set()

    def _answer(self, chat: Chat, stop: threading.Event, done: queue.SimpleQueue[Answer]) -> None:
        try:
            found = self._client.ask({**self._asked, **chat.more, "messages": chat.messages})
            done.put(answer_of(chat.row, found))
        except Ended:
            return
        except Exception as error:
            done.put(Answer(chat.row, error=error))


def answer_of(row: int, found: Mapping[str, Any]) -> Answer:
    """The answer in a chat completion.

    Raises:
        InvalidRow: it has no text, or was held back.
    """
    choices = found.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        why = f": {words_of(found)}" if found.get("error") else ""
        raise InvalidRow(f"the endpoint's answer has no choices{why}")
    message, reason = first.get("message"), first.get("finish_reason")
    text = message.get("content") if isinstance(message, dict) else None
    if reason not in ("stop", "length"):
        raise InvalidRow(f"the endpoint ended the answer with {str(reason)[:80]!r}")
    if not isinstance(text, str):
        raise InvalidRow("the endpoint's answer has no text")
    usage = found.get("usage")
    said = message if isinstance(message, dict) else {}
    thought = said.get("reasoning_content") or said.get("reasoning")  # vLLM has had both
    read, written = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(
        row, text.encode("utf-8", "replace").decode(), cast(FinishReason, reason), written,
        n_prompt=read, reasoning=thought if isinstance(thought, str) else None,
    )  # fmt: skip


def _count(usage: Any, name: str) -> int:
    """Tokens that the API counted; 0 if it says nothing that can be a count."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MOST_COUNT else 0
