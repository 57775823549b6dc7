"""Kills of gateway, controller or worker in the middle of batches: no line is lost, none is there twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.acceptance.conftest import Say, Scale
from tests.acceptance.gateway.test_openai_client import LINES, write_lines
from tests.acceptance.harness.house import House, answering, running_house
from tests.conftest import free_port, wait_until

pytestmark = pytest.mark.timeout(900)

MOMENTS = ("validating", "in_progress", "finalizing", "completed")
"""In their order: the kill falls when the batch has come this far."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("killed")) as found:
        yield found


def kill(house: House, name: str, port: int) -> None:
    """Kill a process, and start its like."""
    killed = house.processes.pop(name)
    killed.kill()
    killed.wait()
    if name == "worker":
        house.start_worker()
    elif name == "controller":
        house.start("controller", "headrace", "controller")
    else:
        house.start("gateway", "headrace", "serve", "--listen", f"127.0.0.1:{port}")


def ids_in(client: OpenAI, file: str | None) -> list[str]:
    if file is None:
        return []
    return [json.loads(line)["custom_id"] for line in client.files.content(file).text.splitlines()]


def test_kills_in_the_middle_of_batches_lose_no_line_and_repeat_none(
    house: House, tmp_path: Path, scale: Scale, chance: random.Random, say: Say
) -> None:
    port = free_port()
    client = answering(house.serve(port))
    house.processes["gateway"] = house.processes.pop(list(house.processes)[-1])
    with write_lines(tmp_path / "in.jsonl").open("rb") as file:
        uploaded = client.files.create(file=file, purpose="batch").id
    wanted = Counter({f"row-{i}": 1 for i in range(LINES)})
    done: Counter[str] = Counter()
    for number in range(scale.of(1, 20)):
        batch = client.batches.create(
            input_file_id=uploaded, endpoint="/v1/embeddings", completion_window="24h"
        ).id
        moment = chance.choice(MOMENTS[:3])
        reached = MOMENTS[MOMENTS.index(moment) :]
        wait_until(lambda b=batch, r=reached: client.batches.retrieve(b).status in r, 90, moment)
        is_cancelled = number % 4 == 3
        if is_cancelled:
            client.batches.cancel(batch)
        name = chance.choice(("gateway", "controller", "worker"))
        kill(house, name, port)
        answering(client)
        ended = _ended(client, batch)
        assert ended.status in (("completed", "cancelled") if is_cancelled else ("completed",))
        right = ids_in(client, ended.output_file_id)
        wrong = ids_in(client, ended.error_file_id)
        # a batch that is cancelled before its lines were read counts none
        expected = wanted if ended.request_counts.total else Counter()
        assert Counter(right + wrong) == expected, (name, moment)
        assert (len(right), len(wrong)) == (
            ended.request_counts.completed, ended.request_counts.failed,
        )  # fmt: skip
        assert is_cancelled or not wrong
        done[name] += 1
    say("batch", f"{done.total()} batches, killed: {dict(done)}; no line lost, none twice")


def _ended(client: OpenAI, batch: str) -> Any:
    return wait_until(
        lambda: (b := client.batches.retrieve(batch)).status in ("completed", "cancelled") and b,
        180,
        "the batch",
    )
