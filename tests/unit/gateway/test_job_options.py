"""What a request may say about a job: no option of it names a file of the gateway's host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace.settings import load_settings
from producers.gateway.job_options import NewJob, options_in
from schemas.errors import ConfigError


def options(**given: object) -> dict[str, object]:
    return options_in(NewJob(input="s3://b/in", output="s3://b/out", **given))


def test_labels_are_never_read_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key-1\nkey-2\n")
    assert json.loads(str(options(candidate_labels=str(secret))["candidate_labels"])) == [
        str(secret)
    ]


def test_labels_with_commas_and_as_json_stay_what_they_are() -> None:
    for given in ("billing, shipping", '["billing", "shipping"]'):
        assert options(candidate_labels=given) == {"candidate_labels": '["billing", "shipping"]'}


def test_labels_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="is there 2 times"):
        options(candidate_labels="a,a")


def test_a_schema_is_given_itself_and_never_as_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"key": 1}')
    with pytest.raises(ValidationError):
        options(json_schema=str(secret))
    found = options(json_schema={"type": "object"})
    assert load_settings(**found).json_schema == '{"type": "object"}'


def test_no_request_names_a_program_of_the_gateways_host() -> None:
    with pytest.raises(ValidationError, match="vllm_python"):
        options(engine="vllm", vllm_python="/bin/sh")
