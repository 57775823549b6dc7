"""What a registry in MLflow must do; run against a server in memory and, by hand, against MLflow."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from headrace.models.mlflow import MlflowRegistry
from headrace.models.port import ModelAddress
from schemas.errors import ModelRegistryError
from schemas.records.job import ModelRef

TASK = "text-classification"


def model(number: int, uri: str = "") -> ModelRef:
    return ModelRef(uri=uri or f"s3://models/{number}", revision=f"sha256:{number:064x}")


@dataclass
class Registered:
    """A registry with three versions of a model of its own."""

    registry: MlflowRegistry
    name: str

    def __post_init__(self) -> None:
        for number in (1, 2, 3):
            self.registry.register(
                self.name,
                model(number),
                task=TASK,
                labels=("neg", "pos"),
                by="ann",
                note=f"n{number}",
            )

    def at(self, alias: str) -> int:
        return self.registry.find(ModelAddress(self.name, alias=alias)).version


class MlflowContract:
    """The tests; a subclass has the fixture `three`."""

    def test_a_version_is_what_was_registered(self, three: Registered) -> None:
        registry, name = three.registry, three.name
        assert [v.version for v in registry.versions(name)] == [1, 2, 3]
        assert name in registry.names()
        found = registry.find(ModelAddress(name, version=2))
        assert (found.model, found.task, found.labels) == (model(2), TASK, ("neg", "pos"))
        assert (found.created_by, found.note) == ("ann", "n2")
        assert found.created_s > 1.7e9

    def test_the_same_model_again_is_the_same_version(self, three: Registered) -> None:
        again = three.registry.register(three.name, model(1), task=TASK)
        assert again.version == 1
        assert len(three.registry.versions(three.name)) == 3

    def test_a_hub_id_is_one_again(self, three: Registered) -> None:
        hub = model(9, "org/name")
        made = three.registry.register(three.name, hub, task=TASK)
        assert three.registry.find(ModelAddress(three.name, version=made.version)).model == hub

    def test_a_folder_is_refused_in_words(self, three: Registered) -> None:
        with pytest.raises(
            ModelRegistryError, match=r"takes no folder .*copy the model to a bucket"
        ):
            three.registry.register(three.name, model(9, "/models/9"), task=TASK)

    def test_an_alias_moves_and_its_moves_are_kept(self, three: Registered) -> None:
        registry, name = three.registry, three.name
        registry.promote(name, "champion", 1, by="ann", why="first")
        registry.promote(name, "champion", 2, seen=1)
        with pytest.raises(ModelRegistryError, match="look again"):
            registry.promote(name, "champion", 3, seen=1)
        registry.promote(name, "champion", 2)
        assert three.at("champion") == 2
        registry.roll_back(name, "champion", by="bob")
        moves = registry.moves(name, "champion")
        assert [(m.number, m.previous, m.version) for m in moves] == [
            (1, None, 1),
            (2, 1, 2),
            (3, 2, 1),
        ]
        assert [m.moved_by for m in moves] == ["ann", "", "bob"]
        assert registry.aliases(name) == {"champion": moves[-1]}

    def test_a_move_by_another_client_is_one_too(self, three: Registered) -> None:
        registry, name = three.registry, three.name
        registry.promote(name, "champion", 1)
        registry._api.post(
            "registered-models/alias", {"name": name, "alias": "champion", "version": "3"}
        )
        assert three.at("champion") == 3
        with pytest.raises(ModelRegistryError, match="points to version 3, moved by MLflow"):
            registry.promote(name, "champion", 2, seen=1)
        registry.promote(name, "champion", 2, seen=2)
        moves = [(m.number, m.version, m.moved_by) for m in registry.moves(name, "champion")]
        assert moves == [(1, 1, ""), (2, 3, "MLflow"), (3, 2, "")]

    def test_what_is_not_there_is_said_with_what_is(self, three: Registered) -> None:
        registry, name = three.registry, three.name
        registry.promote(name, "best", 2)
        for address, what in (
            (ModelAddress(name, alias="x"), "no alias x"),
            (ModelAddress(name, version=9), "no version 9"),
        ):
            with pytest.raises(
                ModelRegistryError, match=f"{what} in http.*1, 2, 3; aliases best → 2"
            ):
                registry.find(address)
        with pytest.raises(ModelRegistryError, match="has no version 1 .*it knows .*" + name):
            registry.find(ModelAddress("nobody", version=1))
        with pytest.raises(ModelRegistryError, match="has no version before"):
            registry.roll_back(name, "best")
        assert registry.versions("nobody") == []
        assert registry.moves("nobody", "best") == []
