"""What a model wrote for a line, in the shape of OpenAI's chat completions and completions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.tasks.generation.reasoning import COLUMN as REASONING
from producers.gateway.batches.chat import CHAT
from producers.gateway.records import Checked, Endpoint

GENERATED = ("generated_text", "finish_reason", "n_generated")
"""Of a part, what an answer is made of."""


def completion(
    id: str, endpoint: Endpoint, checked: Checked, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The body for a line's rows, one for each prompt, and their samples; `created` is when the lines were checked."""
    answers = [it for row in rows for it in _samples(row)]
    read = sum(row["n_tokens"] or 0 for row in rows)
    written = sum(it["n_generated"] or 0 for it in answers)
    is_chat = endpoint == CHAT
    made = [_chat_choice(it) if is_chat else {"text": it["generated_text"]} for it in answers]
    choices = [
        {"index": at, **choice, "logprobs": None, "finish_reason": it["finish_reason"]}
        for at, (choice, it) in enumerate(zip(made, answers, strict=True))
    ]
    return {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{id}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(checked.at_s),
        "model": checked.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        },
    }


def _samples(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to a row: one, or those of its lists."""
    if not isinstance(row["generated_text"], list):
        return [row]
    names = [name for name in (*GENERATED, REASONING) if row.get(name) is not None]
    return [{name: row[name][at] for name in names} for at in range(len(row["generated_text"]))]


def _chat_choice(row: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": row["generated_text"], "refusal": None}
    if row.get(REASONING) is not None:
        message["reasoning_content"] = row[REASONING]  # vLLM's name; OpenAI's answers have none
    return {"message": message}
