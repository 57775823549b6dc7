"""Versions are never changed, and of two who move an alias one wins."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import pytest

from headrace.models.named import version_of
from headrace.models.port import ModelAddress
from headrace.models.registry import ModelRegistry, open_model_registry, parse_address
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from schemas.errors import ConfigError, ModelRegistryError
from schemas.records.job import ModelRef
from schemas.records.model_version import AliasMove, ModelVersion

TASK = "text-classification"


def model(number: int) -> ModelRef:
    return ModelRef(uri=f"/models/{number}", revision=f"sha256:{number:064x}")


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(LocalStore(str(tmp_path / "registry")), now=lambda: 1_800_000_000.0)


@pytest.fixture
def two(registry: ModelRegistry) -> ModelRegistry:
    """A registry with two versions of `reviews` and no alias."""
    for number in (1, 2):
        registry.register("reviews", model(number), task=TASK)
    return registry


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("models:/reviews@champion", ModelAddress("reviews", alias="champion")),
        ("models:/reviews/7", ModelAddress("reviews", version=7)),
        ("models:/a.b-c_1@x", ModelAddress("a.b-c_1", alias="x")),
    ],
)
def test_an_address_names_a_version_by_alias_or_number(text: str, address: ModelAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "models:/reviews",
        "models:/Reviews@x",
        "models:/../x@y",
        "models:/a/b@c",
        "models:/a@",
        "a@b",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ModelRegistryError, match="names no version"):
        parse_address(text)


def test_versions_count_up_and_the_same_model_is_one_version(registry: ModelRegistry) -> None:
    numbers = [registry.register("reviews", model(n), task=TASK).version for n in (5, 6, 5, 7)]
    assert numbers == [1, 2, 1, 3]
    assert [v.model for v in registry.versions("reviews")] == [model(5), model(6), model(7)]
    assert registry.names() == ["reviews"]


def test_the_same_model_for_another_task_is_another_version(registry: ModelRegistry) -> None:
    registry.register("reviews", model(1), task=TASK)
    assert registry.register("reviews", model(1), task="feature-extraction").version == 2


def test_an_alias_points_where_its_last_move_says(two: ModelRegistry) -> None:
    two.promote("reviews", "champion", 1, by="ann", why="the first")
    move = two.promote("reviews", "champion", 2, by="bob", why="better on holdout")
    assert move == AliasMove(
        name="reviews", alias="champion", number=2, version=2, previous=1,
        moved_s=1_800_000_000.0, moved_by="bob", why="better on holdout",
    )  # fmt: skip
    assert two.find(parse_address("models:/reviews@champion")).version == 2
    assert two.aliases("reviews") == {"champion": move}


def test_a_move_to_where_the_alias_points_is_that_move(two: ModelRegistry) -> None:
    first = two.promote("reviews", "champion", 1, by="ann")
    assert two.promote("reviews", "champion", 1, by="bob") == first
    assert two.moves("reviews", "champion") == [first]


def test_rolling_back_is_a_move_too(two: ModelRegistry) -> None:
    two.promote("reviews", "champion", 1)
    two.promote("reviews", "champion", 2)
    back = two.roll_back("reviews", "champion", why="worse on Mondays")
    assert (back.number, back.version, back.previous) == (3, 1, 2)
    assert [m.version for m in two.moves("reviews", "champion")] == [1, 2, 1]


def test_an_alias_that_never_moved_cannot_go_back(two: ModelRegistry) -> None:
    with pytest.raises(ModelRegistryError, match="no version before"):
        two.roll_back("reviews", "champion")
    two.promote("reviews", "champion", 1)
    with pytest.raises(ModelRegistryError, match="no version before"):
        two.roll_back("reviews", "champion")


def test_who_decided_before_another_moved_the_alias_is_refused(two: ModelRegistry) -> None:
    two.promote("reviews", "champion", 1, seen=0)
    with pytest.raises(ModelRegistryError, match="points to version 1"):
        two.promote("reviews", "champion", 2, seen=0)
    assert two.promote("reviews", "champion", 2, seen=1).number == 2


def test_what_is_missing_is_said_with_what_there_is(two: ModelRegistry) -> None:
    two.promote("reviews", "champion", 2)
    with pytest.raises(ModelRegistryError, match=r"no version 9 .*versions 1, 2; aliases champion"):
        two.find(ModelAddress("reviews", version=9))
    with pytest.raises(ModelRegistryError, match="no alias candidate"):
        two.find(ModelAddress("reviews", alias="candidate"))
    with pytest.raises(ModelRegistryError, match="it knows reviews"):
        two.find(ModelAddress("other", version=1))
    with pytest.raises(ModelRegistryError, match="no version 3"):
        two.promote("reviews", "champion", 3)


RACES = int(os.environ.get("HEADRACE_ALIAS_RACES", "50"))
"""`make races` runs 1,000."""
LOG = 50
"""Races for one alias: its log is read in each of them."""


def test_of_two_promoters_at_once_one_wins_and_the_log_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    ones = [ModelRegistry(LocalStore(str(folder))) for _ in range(2)]
    for number in range(1, 4):
        ones[0].register("reviews", model(number), task=TASK)
    start = Barrier(2)

    def move(who: int, alias: str, seen: int, version: int) -> int:
        start.wait()
        try:
            ones[who].promote("reviews", alias, version, seen=seen, by=str(who))
        except ModelRegistryError:
            return 0
        return 1

    with ThreadPoolExecutor(2) as pool:
        for race in range(RACES):
            alias, seen = f"alias-{race // LOG}", race % LOG + 1
            if seen == 1:
                ones[0].promote("reviews", alias, 3)
            now = ones[0].moves("reviews", alias)[-1].version
            targets = [v for v in (1, 2, 3) if v != now]
            tried = [pool.submit(move, who, alias, seen, targets[who]) for who in (0, 1)]
            assert sum(t.result() for t in tried) == 1
    whole = 0
    for alias in ones[0].aliases("reviews"):
        log = ones[0].moves("reviews", alias)
        assert [m.number for m in log] == list(range(1, len(log) + 1))
        assert all(b.previous == a.version for a, b in pairwise(log))
        whole += len(log) - 1
    assert whole == RACES


def test_a_base_may_be_registered_for_another_task(tmp_path: Path) -> None:
    settings = load_settings(model_registry=str(tmp_path), model="models:/reviews/1", task="fake")
    made = open_model_registry(settings).register("reviews", model(1), task=TASK)
    assert version_of(settings, any_task=True) == made
    with pytest.raises(ModelRegistryError, match="registered for"):
        version_of(settings)


def test_of_many_who_register_at_once_each_gets_a_version_of_its_own(tmp_path: Path) -> None:
    registry, many = ModelRegistry(LocalStore(str(tmp_path))), 8
    start = Barrier(many)

    def register(number: int) -> ModelVersion:
        start.wait()
        return registry.register("reviews", model(number), task=TASK)

    with ThreadPoolExecutor(many) as pool:
        found = list(pool.map(register, range(many)))
    assert sorted(v.version for v in found) == list(range(1, many + 1))


def test_a_damaged_record_is_named(two: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "registry/reviews/versions/000002.json").write_text("{}")
    with pytest.raises(ModelRegistryError, match=r"reviews/versions/000002\.json is not a"):
        two.find(ModelAddress("reviews", version=2))


def test_a_job_takes_the_version_that_its_model_names(two: ModelRegistry, tmp_path: Path) -> None:
    two.promote("reviews", "champion", 2)
    settings = load_settings(
        model="models:/reviews@champion", task=TASK, model_registry=str(tmp_path / "registry")
    )
    found = version_of(settings)
    assert found is not None
    assert found.model == model(2)
    assert version_of(settings.model_copy(update={"model": "/a/folder"})) is None
    with pytest.raises(ModelRegistryError, match="registered for text-classification"):
        version_of(settings.model_copy(update={"task": "feature-extraction"}))
    with pytest.raises(ConfigError, match="leave --revision out"):
        version_of(settings.model_copy(update={"revision": "a" * 40}))
