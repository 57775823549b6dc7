"""What a model wrote for a line, in the shape of OpenAI's chat completions and completions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producers.gateway.batches.chat import CHAT
from producers.gateway.records import Checked, Endpoint


def completion(
    id: str, endpoint: Endpoint, checked: Checked, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The body for a line's rows, one for each prompt; `created` is when the lines were checked."""
    read = sum(row["n_tokens"] or 0 for row in rows)
    written = sum(row["n_generated"] or 0 for row in rows)
    is_chat = endpoint == CHAT
    made = [_chat_choice(row) if is_chat else {"text": row["generated_text"]} for row in rows]
    choices = [
        {"index": at, **it, "logprobs": None, "finish_reason": row["finish_reason"]}
        for at, (it, row) in enumerate(zip(made, rows, strict=True))
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


def _chat_choice(row: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": row["generated_text"], "refusal": None}
    return {"message": message}
