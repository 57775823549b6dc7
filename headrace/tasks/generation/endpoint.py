"""The engine `endpoint`: an API that speaks OpenAI's chat completions. Pure, for both sides.

The model is behind HTTP, so a job has no files of it: its name and the address stand for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from headrace.tasks.generation.settings import samples_of
from schemas.errors import ConfigError, UriNotAllowed
from schemas.records.engine import ENDPOINT

API = "OpenAI chat/completions"
"""Recorded as the engine's version."""
TASK = "text-generation"
MOST_ADDRESS = 128
"""Required: the address is the revision of the job's model."""

SENT: Mapping[str, str] = {
    "max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed",
}  # fmt: skip
"""Option of a job → the parameter of a request."""
SERVED = frozenset(
    {*SENT, "endpoint", "num_samples", "stop", "json_schema", "prompt", "messages_column",
     "system_prompt", "split_reasoning", "row_settings_column"}
)  # fmt: skip


def check_endpoint(engine: str | None, task: str, params: Mapping[str, Any]) -> None:
    """Check the options of a job with this engine; another engine takes no address.

    Raises:
        ConfigError: the address is missing or is none, or an option is not served there.
    """
    address = params.get("endpoint")
    if engine != ENDPOINT:
        if address is not None:
            raise ConfigError(f"--endpoint has no meaning without --engine {ENDPOINT}")
        return
    if task != TASK:
        raise ConfigError(
            f"--engine {ENDPOINT} is for --task {TASK}: say in --prompt what is to be done"
        )
    if address is None:
        raise ConfigError(f"--engine {ENDPOINT} needs --endpoint, such as http://localhost:8000/v1")
    check_address(address)
    for name in sorted(params.keys() - SERVED):
        if params[name] not in (None, True) and (name, params[name]) != ("on_long", "error"):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is not served by --engine {ENDPOINT}: leave it out")
    samples = samples_of(params)
    if samples > 1 and params.get("temperature") == 0:
        raise ConfigError(f"--num-samples {samples}: without sampling all would be equal")


def check_allowed_address(address: str, allowed: Sequence[str]) -> None:
    """Check that the address is one of those, or below one; without any, all are.

    Raises:
        UriNotAllowed: it is not.
    """
    for other in allowed:
        begin = other.rstrip("/")
        if address == begin or address.startswith(f"{begin}/"):
            return
    if allowed:
        raise UriNotAllowed(f"{address} is none of the setting allowed-endpoints")


def check_address(address: str) -> None:
    """Check the address of an API, up to its `/v1`.

    Raises:
        ConfigError: it is no http address, or holds what belongs elsewhere.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"--endpoint: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("--endpoint is an address such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment or ".." in parts.path:
        raise ConfigError(
            "--endpoint has no user, key, query or '..': the key is HEADRACE_ENDPOINT_KEY of the workers"
        )
    if len(address) > MOST_ADDRESS:
        raise ConfigError(f"--endpoint has more than {MOST_ADDRESS} characters")
