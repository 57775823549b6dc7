"""The client of OpenAI, unmodified, against a real gateway, controller and worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletion

from tests.acceptance.harness.house import House, answering, running_house
from tests.conftest import free_port, wait_until

pytestmark = pytest.mark.timeout(300)

BIN = Path(sys.executable).parent
LINES = 400


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("gateway")) as found:
        yield found


def write_lines(path: Path, lines: int = LINES) -> Path:
    rows = [
        {"custom_id": f"row-{i}", "method": "POST", "url": "/v1/embeddings",
         "body": {"model": "tiny", "input": f"text number {i}"}}
        for i in range(lines)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_client_uploads_creates_polls_downloads_and_cancels(
    house: House, tmp_path: Path
) -> None:
    client = answering(house.serve(free_port()))
    with write_lines(tmp_path / "in.jsonl").open("rb") as file:
        uploaded = client.files.create(file=file, purpose="batch")
    assert client.files.content(uploaded.id).read() == (tmp_path / "in.jsonl").read_bytes()
    batch = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/embeddings", completion_window="24h",
        metadata={"night": "1"},
    )  # fmt: skip
    done = wait_until(
        lambda: (b := client.batches.retrieve(batch.id)).status == "completed" and b,
        90,
        "the batch",
    )
    assert done.request_counts.completed == LINES
    answers = [
        json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()
    ]
    assert [a["custom_id"] for a in answers] == [f"row-{i}" for i in range(LINES)]
    assert len(answers[0]["response"]["body"]["data"][0]["embedding"]) == 32
    house.stop("worker")  # a batch that ended before its cancel was seen would stay completed
    second = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/embeddings", completion_window="24h"
    )
    client.batches.cancel(second.id)
    ended = wait_until(
        lambda: (b := client.batches.retrieve(second.id)).status == "cancelled" and b,
        60,
        "the cancel",
    )
    house.start_worker()
    assert ended.cancelling_at is not None
    assert [b.id for b in client.batches.list(limit=1)] == [second.id, batch.id]
    assert client.files.delete(uploaded.id).deleted


def test_a_batch_of_chats_is_answered(house: House, tmp_path: Path) -> None:
    client = answering(house.serve(free_port()))
    body = {"model": "writer", "max_tokens": 6, "temperature": 0}
    lines = [
        {"custom_id": f"chat-{i}", "method": "POST", "url": "/v1/chat/completions",
         "body": body | {"messages": [{"role": "user", "content": f"w{i} w{i + 1} w2"}]}}
        for i in range(12)
    ]  # fmt: skip
    lines[3]["body"] = {**lines[3]["body"], "stream": True}  # type: ignore[dict-item]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    uploaded = client.files.create(file=("chats.jsonl", data), purpose="batch")
    batch = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    done = wait_until(
        lambda: (b := client.batches.retrieve(batch.id)).status == "completed" and b, 90, "it"
    )
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (12, 11, 1)
    answers = client.files.content(done.output_file_id).text.splitlines()
    bodies = [ChatCompletion.model_validate(json.loads(a)["response"]["body"]) for a in answers]
    assert all(b.choices[0].message.content and b.usage.completion_tokens <= 6 for b in bodies)
    (error,) = client.files.content(done.error_file_id).text.splitlines()
    assert json.loads(error)["custom_id"] == "chat-3"
    assert "stream" in json.loads(error)["error"]["message"]


def test_the_client_sees_errors_as_those_of_openai(house: House, tmp_path: Path) -> None:
    client = answering(house.serve(free_port()))
    with pytest.raises(NotFoundError, match="there is no batch"):
        client.batches.retrieve("batch_000000000000")
    with pytest.raises(AuthenticationError, match="give a key"):
        OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).files.list()
    with pytest.raises(BadRequestError, match="purpose must be batch"):
        client.files.create(file=b"x", purpose="fine-tune")


def test_a_gateway_that_is_killed_loses_no_batch(house: House, tmp_path: Path) -> None:
    port = free_port()
    client = answering(house.serve(port))
    with write_lines(tmp_path / "in.jsonl").open("rb") as file:
        uploaded = client.files.create(file=file, purpose="batch")
    batches = [
        client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/embeddings", completion_window="24h"
        ).id
        for _ in range(3)
    ]
    first = list(house.processes)[-1]
    killed = house.processes.pop(first)
    killed.kill()
    killed.wait()
    house.start("again", "headrace", "serve", "--listen", f"127.0.0.1:{port}")
    answering(client)
    for id in batches:
        done: Any = wait_until(
            lambda id=id: (b := client.batches.retrieve(id)).status == "completed" and b, 90, "it"
        )
        lines = client.files.content(done.output_file_id).text.splitlines()
        ids = [json.loads(line)["custom_id"] for line in lines]
        assert ids == [f"row-{i}" for i in range(LINES)], "none lost, no line twice"
