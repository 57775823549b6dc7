"""The engine `endpoint` against a server on a socket: every row has its answer or its error."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.setting_fields import declared_settings
from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.endpoint import check_endpoint
from schemas.errors import ConfigError, EndpointAway, ModelError, Stopped, UriNotAllowed
from tests.unit.endpoint.api import KEY, Api, serving
from tests.unit.generation.engine_runs import Events
from tests.unit.one_chunk import ListSink, Marks, observe_nothing, run_source, source
from workers.batching.packing import Budget
from workers.engines.endpoint import retries
from workers.pipeline.loaded_task import LoadedTask
from workers.tasks.remote.endpoint_generation import EndpointGeneration


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("HEADRACE_ENDPOINT_KEY", KEY)
    with serving() as found:
        yield found


def loaded(address: str, **params: Any) -> LoadedTask:
    task = EndpointGeneration()
    asked = {"endpoint": address, **params}
    task.load(LoadRequest("m1", "cpu", "float32", None, asked, engine="endpoint"))
    return LoadedTask(task, Budget(task.default_batch_tokens()), padded=True)


def rows_of(task: LoadedTask, texts: list[str], marks: Marks | None = None) -> list[dict[str, Any]]:
    sink = ListSink()
    run_source(source(texts, 50), task, sink, observe_nothing, marks or Marks())
    return sink.rows


def test_a_row_may_have_settings_of_its_own(api: Api) -> None:
    task = loaded(api.address, max_new_tokens=9, row_settings_column="own").task
    own = ['{"max_new_tokens": 3, "stop": ["x"]}', "{}", '{"seed": 7, "temperature": 0}']
    rows = task.encode(["a", "b", "c"], own)
    assert {it.row for it in task.generate(rows, Events(), 1)} == {0, 1, 2}
    sent = {it.pop("messages")[0]["content"]: it for it in api.asked}
    common = {"model": "m1", "max_tokens": 9, "seed": 0}
    assert sent == {
        "a": common | {"max_tokens": 3, "stop": ["x"]},
        "b": common,
        "c": common | {"seed": 7, "temperature": 0.0},
    }


def test_each_row_has_its_answer_and_the_tokens_that_were_counted(api: Api) -> None:
    texts = [f"text {n}" for n in range(30)]
    rows = rows_of(loaded(api.address, max_new_tokens=9, temperature=0.5, stop="x"), texts)
    assert [row["generated_text"] for row in rows] == [text[::-1] for text in texts]
    assert [row["n_tokens"] for row in rows] == [len(text) for text in texts]
    assert [row["n_generated"] for row in rows] == [len(text) + 1 for text in texts]
    assert {row["finish_reason"] for row in rows} == {"stop"}
    assert {row["logprob"] for row in rows} == {None}
    assert api.asked[0] | {"messages": []} == {
        "model": "m1", "max_tokens": 9, "temperature": 0.5, "stop": ["x"], "seed": 0,
        "messages": [],
    }  # fmt: skip
    assert api.keys == {f"Bearer {KEY}"}


ODD = {
    "status 400": "answered 400: this is not for me",
    "status 500": "answered 500",
    "broken": "no JSON object",
    "filter": "content_filter",
}


def test_a_row_that_cannot_be_answered_is_an_error_and_the_only_one(api: Api) -> None:
    rows = rows_of(loaded(api.address), ["a", *ODD, "b"])
    assert [row["error_type"] for row in rows] == [None, *["invalid_row"] * 4, None]
    for row, words in zip(rows[1:], ODD.values(), strict=False):
        assert words in str(row["error_message"])
    assert api.seen["status 500"] == retries.ROW_TRIES
    assert api.seen["status 400"] == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"choices": []}, "the endpoint's answer has no choices"),
        ({"choices": ["a"]}, "the endpoint's answer has no choices"),
        ({"error": {"message": "full"}}, "the endpoint's answer has no choices: full"),
        ({"choices": [{"message": {"content": "a"}}]}, "the endpoint ended the answer with 'None'"),
    ],
    ids=str,
)
def test_an_answer_without_a_text_says_what_is_missing(
    api: Api, answer: dict[str, Any], words: str
) -> None:
    rows = rows_of(loaded(api.address), ["a", json.dumps(answer)])
    assert rows[0]["generated_text"] == "a"
    assert (rows[1]["error_type"], rows[1]["error_message"]) == ("invalid_row", words)


@pytest.mark.parametrize("count", [2**31, 2**70, -1, "3", 1.5, True, None])
def test_a_count_of_tokens_that_is_none_is_left_out(api: Api, count: Any) -> None:
    choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": count, "completion_tokens": count}
    (row,) = rows_of(loaded(api.address), [json.dumps({"choices": [choice], "usage": usage})])
    assert row["generated_text"] == "yes"
    assert (row["n_tokens"], row["n_generated"]) == (0, 0)


def test_an_api_that_is_full_is_asked_again_when_it_says(api: Api) -> None:
    began = time.monotonic()
    rows = rows_of(loaded(api.address), ["once 429"])
    assert rows[0]["generated_text"] == "924 ecno"
    assert time.monotonic() - began >= 0.05
    assert api.seen["once 429"] == 2


def test_no_more_requests_run_at_once_than_the_setting_says(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ENDPOINT_REQUESTS", "3")
    api.release.set()
    rows = rows_of(loaded(api.address), [f"slow {n}" for n in range(20)])
    assert len(rows) == 20
    assert api.most_at_once <= 3


def test_an_answer_that_never_comes_is_an_error_of_its_row(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ENDPOINT_TIMEOUT_S", "0.2")
    rows = rows_of(loaded(api.address), ["a", "slow", "b"])
    assert [row["error_type"] for row in rows] == [None, "invalid_row", None]
    assert "no answer in 0.2 s" in rows[1]["error_message"]


def test_a_stop_does_not_wait_for_answers(api: Api) -> None:
    began = time.monotonic()
    with pytest.raises(Stopped):
        rows_of(loaded(api.address), ["slow"] * 3, Marks(stop_before=1))
    assert time.monotonic() - began < 10  # of the 20 s that the API takes


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "HEADRACE_ENDPOINT_KEY"),
        (404, "404"),
        (307, "307: .*; it sends to https://api/v2/chat: give that address with --endpoint"),
    ],
)
def test_a_key_or_model_that_is_refused_ends_the_chunk(api: Api, status: int, words: str) -> None:
    with pytest.raises(ModelError, match=words) as error:
        rows_of(loaded(api.address), ["a", f"status {status}"])
    assert KEY not in str(error.value)


def test_an_api_that_is_away_is_for_a_later_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(EndpointAway, match="does not answer"):
            rows_of(loaded(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"), ["a"])
    assert EndpointAway.retryable


def test_samples_are_requests_with_seeds_of_their_own(api: Api) -> None:
    (row,) = rows_of(loaded(api.address, num_samples=3, seed=7), ["abc"])
    assert row["generated_text"] == ["cba"] * 3
    assert sorted(body["seed"] for body in api.asked) == [7, 8, 9]
    assert (row["n_tokens"], row["n_generated"]) == (3, [4, 4, 4])


def test_a_schema_is_sent_and_its_properties_are_columns(api: Api) -> None:
    schema = {"type": "object", "properties": {"word": {"type": "string"}}}
    (row,) = rows_of(loaded(api.address, json_schema=json.dumps(schema)), ["say yes"])
    assert (row["word"], row["parse_error"]) == ("yes", None)
    assert api.asked[0]["response_format"]["json_schema"]["schema"] == schema


def test_chats_and_a_system_message_are_sent_as_they_are(api: Api) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    task = loaded(api.address, messages_column="chat", system_prompt="be brief")
    rows = rows_of(task, [json.dumps(chat), "no chat"])
    assert [row["error_type"] for row in rows] == [None, "invalid_row"]
    assert api.asked[0]["messages"] == [{"role": "system", "content": "be brief"}, *chat]


def test_an_address_that_is_not_allowed_gets_no_key(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = api.address.removesuffix("/v1")
    for allowed, is_allowed in {
        "http://elsewhere/v1": False, host[:-1]: False, f"{api.address}/x": False, host: True,
        f"http://elsewhere,{api.address}/": True,
    }.items():  # fmt: skip
        monkeypatch.setenv("HEADRACE_ALLOWED_ENDPOINTS", allowed)
        if is_allowed:
            loaded(api.address)
        else:
            with pytest.raises(UriNotAllowed):
                loaded(api.address)
    assert not declared_settings()["endpoint_key"].group, "no option of a job, so in no record"


ASKED = {"endpoint": "http://h:1/v1"}
REFUSED: dict[str, tuple[str | None, str, dict[str, Any], str]] = {
    "no address": ("endpoint", "text-generation", {}, "needs --endpoint"),
    "another engine": (None, "text-generation", ASKED, "no meaning without --engine"),
    "another task": ("endpoint", "summarization", {}, "--prompt"),
    "a file": ("endpoint", "text-generation", {"endpoint": "/tmp"}, "an address such as"),
    "a key": ("endpoint", "text-generation", {"endpoint": "http://k@h/v1"}, "no user, key"),
    "a query": ("endpoint", "text-generation", {"endpoint": "http://h/v1?key=1"}, "no user, key"),
    "no port": ("endpoint", "text-generation", {"endpoint": "http://h:x/v1"}, "--endpoint"),
    "beams": ("endpoint", "text-generation", ASKED | {"num_beams": 2}, "--num-beams is not"),
    "choices": ("endpoint", "text-generation", ASKED | {"choices": "a,b"}, "--choices is not"),
    "cutting": ("endpoint", "text-generation", ASKED | {"on_long": "truncate-left"}, "--on-long"),
    "no template": ("endpoint", "text-generation", ASKED | {"chat": False}, "--chat is not"),
    "one answer": ("endpoint", "text-generation", ASKED | {"num_samples": 2, "temperature": 0.0},
                   "all would be equal"),
}  # fmt: skip


@pytest.mark.parametrize(("engine", "task", "params", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_served_is_refused_at_submission(
    engine: str | None, task: str, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check_endpoint(engine, task, params)
