"""A synchronous worker follows an alias: no request fails, and a version that cannot load changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from headrace.models.registry import ModelRegistry, open_model_registry
from headrace.settings import Settings, load_settings
from headrace.tasks.model_digest import folder_digest
from schemas.errors import ModelRegistryError
from schemas.records.job import ModelRef
from tests.conftest import wait_until
from tests.unit.tiny_models import TinyModels
from workers.online.app import create_app
from workers.online.door import Door, Follower, Served, open_served
from workers.online.metrics import OnlineMetrics

TASK = "text-classification"


class World:
    """A registry with two versions, and a worker that serves what `champion` names."""

    def __init__(self, folder: Path, tiny: TinyModels) -> None:
        self.settings: Settings = load_settings(
            task=TASK, model="models:/reviews@champion", model_registry=str(folder / "registry"),
            device="cpu", batch_tokens=300,
        )  # fmt: skip
        self.registry: ModelRegistry = open_model_registry(self.settings)
        for family in ("bert", "roberta"):
            self.register(tiny(family, "SequenceClassification"))
        self.registry.promote("reviews", "champion", 1)
        version = self.registry.versions("reviews")[0]
        self.door = Door(open_served(self.settings, version))
        app = create_app(self.door, OnlineMetrics())
        self.client = TestClient(app, raise_server_exceptions=False)

    def register(self, folder: str, task: str = TASK) -> None:
        ref = ModelRef(uri=folder, revision=folder_digest(folder))
        self.registry.register("reviews", ref, task=task)

    def ask(self) -> Any:
        return self.client.post("/v1/classify", json={"input": "a good film"})


@pytest.fixture
def world(tmp_path: Path, tiny: TinyModels) -> Iterator[World]:
    found = World(tmp_path, tiny)
    yield found
    found.door.close()


def test_a_moved_alias_is_followed_and_no_request_fails(world: World) -> None:
    loading, go = threading.Event(), threading.Event()

    def slowly(settings: Settings, version: Any) -> Served:
        loading.set()
        assert go.wait(20)
        return open_served(settings, version)

    follower = Follower(world.door, world.settings, slowly, look_s=0.001)
    follower.start()
    before = world.ask().json()
    assert before["version"] == 1
    world.registry.promote("reviews", "champion", 2)
    assert loading.wait(20)
    assert world.ask().json() == before, "the old one answers while the new one loads"
    with ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def keep_asking() -> set[tuple[int, int]]:
            seen = set()
            while not stop.is_set():
                answer = world.ask()
                seen.add((answer.status_code, answer.json()["version"]))
            return seen

        asked = [pool.submit(keep_asking) for _ in range(4)]
        go.set()
        wait_until(lambda: world.ask().json()["version"] == 2, 20, "the new version")
        stop.set()
        seen = set().union(*(one.result() for one in asked))
    follower.close()
    assert seen <= {(200, 1), (200, 2)}
    assert world.ask().json()["data"] != before["data"]
    assert world.client.get("/readyz").json()["version"] == 2
    assert "headrace_online_model_version 2" in world.client.get("/metrics").text


def test_a_version_that_cannot_be_loaded_changes_nothing_and_is_tried_once(
    world: World, tmp_path: Path
) -> None:
    tried = []

    def opened(settings: Settings, version: Any) -> Served:
        tried.append(version.version)
        return open_served(settings, version)

    follower = Follower(world.door, world.settings, opened)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    world.register(str(tmp_path / "broken"))
    world.registry.promote("reviews", "champion", 3)
    assert not follower.look()
    assert not follower.look()
    assert tried == [3]
    assert world.ask().json()["version"] == 1
    world.registry.promote("reviews", "champion", 2)
    assert follower.look()
    assert not follower.look()
    assert world.ask().json()["version"] == 2


def test_a_version_of_another_task_is_refused(world: World, tiny: TinyModels) -> None:
    world.register(tiny("bert", ""), task="feature-extraction")
    world.registry.promote("reviews", "champion", 3)
    with pytest.raises(ModelRegistryError, match="registered for feature-extraction"):
        Follower(world.door, world.settings).look()
