"""When a job needs a chat template of the model's, and what is said where there is none. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from schemas.errors import ConfigError

FILE = "chat_template.jinja"
MORE = "additional_chat_templates/"
"""Where transformers keeps templates beside the tokenizer's settings, in which older models have it."""


def needs_template(params: Mapping[str, Any]) -> bool:
    """Whether a prompt cannot be made without one; by default it is used where there is one."""
    given = (params.get(name) for name in ("messages_column", "system_prompt"))
    return bool(params.get("chat")) or any(it is not None for it in given)


def check_template(
    names: Collection[str], settings: Mapping[str, Any], params: Mapping[str, Any], where: str
) -> None:
    """Check that a job that needs a template has one: its own, or the model's.

    `names` are the files of the model's folder, `settings` its tokenizer_config.json.

    Raises:
        ConfigError: it has none.
    """
    if not needs_template(params) or params.get("chat_template") is not None:
        return
    has_file = any(name == FILE or name.startswith(MORE) for name in names)
    if not has_file and not settings.get("chat_template"):
        raise no_template(where)


def no_template(where: str) -> ConfigError:
    """The error for a model without one."""
    return ConfigError(
        f"model {where} has no chat template, which a chat, --messages-column and --system-prompt "
        "need: give one with --chat-template"
    )
