"""No option of a request is read from a file of the gateway's host, whatever it says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from headrace.tasks.catalog import BUILT_IN
from producers.gateway.job_options import NewJob
from tests.integration.gateway.conftest import MakeHouse

ADDRESSES = {"input", "output", "model", "reuse"}
"""Places of data; what they may be is limited by prefixes."""
SECRET = "secret-1\nsecret-2\n"


def text_options() -> list[str]:
    """The options of a request that may be a text."""
    fields = NewJob.model_fields.items()
    return [name for name, field in fields if "str" in str(field.annotation)]


def test_no_option_is_read_from_a_file(make_house: MakeHouse, tmp_path: Path) -> None:
    house = make_house(needs_keys=False)
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    seen: list[str] = []
    now: str | None = None

    def watch(event: str, args: tuple[Any, ...]) -> None:
        is_named = event == "open" and isinstance(args[0], str | bytes | os.PathLike)
        if now is not None and is_named and os.fsdecode(args[0]) == str(secret):
            seen.append(now)

    sys.addaudithook(watch)  # it stays for the process' life, and does nothing while `now` is None
    owners = {param.name: task.name for task in BUILT_IN.values() for param in task.params}
    asked = [name for name in text_options() if name not in ADDRESSES]
    assert {"choices", "candidate_labels", "text", "prompt"} <= set(asked)
    try:
        for name in asked:
            now = name
            body = {
                "input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "model": "tiny",
                "task": owners.get(name, "text-classification"), name: str(secret),
            }  # fmt: skip
            answer = house.clients[""].post("/v1/jobs", json=body)
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert "secret-1" not in answer.text, name
        assert seen == []
        now = "control"
        secret.read_text()
        assert seen == ["control"]
    finally:
        now = None
