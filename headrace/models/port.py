"""A registry of models, wherever it is kept: what it can do, and what is the same everywhere."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.models.moves import listing, move_back, moved_meanwhile, next_move
from schemas.errors import ModelRegistryError
from schemas.records.job import ModelRef
from schemas.records.model_version import NAME, AliasMove, ModelVersion

_TRIES = 100
"""Chosen: a registration that meets this many others at once gives up."""


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """`models:/reviews@champion` or `models:/reviews/7`: a version by alias or by number."""

    name: str
    alias: str | None = None
    version: int | None = None


def check_name(name: str) -> str:
    """The name of a model or an alias.

    Raises:
        ModelRegistryError: it is none.
    """
    if re.fullmatch(NAME, name) is None:
        raise ModelRegistryError(
            f"{name!r} is no name: small letters, digits, '.', '_' and '-', 64 at most"
        )
    return name


class Registry(ABC):
    """Versions of models and the aliases that point to them.

    Every method raises StorageError (or its kin) when what keeps it fails.
    """

    keeps_profiles = True
    """Whether what rows looked like can be kept with a version."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all models with a version."""

    @abstractmethod
    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a model, the first one first; empty where there is none."""

    @abstractmethod
    def find(self, address: ModelAddress) -> ModelVersion:
        """The version that the address names now.

        Raises:
            ModelRegistryError: there is no such version or alias; the message lists what there is.
        """

    @abstractmethod
    def aliases(self, name: str) -> dict[str, AliasMove]:
        """The last move of each alias of a model."""

    @abstractmethod
    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """Every move of an alias, the first one first."""

    @abstractmethod
    def keep_profile(self, version: ModelVersion, profile: bytes) -> None:
        """Store the profile of the version's rows when it was made; replaces an earlier one."""

    @abstractmethod
    def profile(self, version: ModelVersion) -> bytes | None:
        """The stored profile; None if there is none."""

    @abstractmethod
    def _add(self, wanted: ModelVersion) -> ModelVersion | None:
        """Store a version; None if another took its number. A server may give it another one."""

    @abstractmethod
    def _move(self, move: AliasMove, before: Sequence[AliasMove]) -> bool:
        """Store a move after those before; False if another took its number."""

    def register(
        self,
        name: str,
        model: ModelRef,
        *,
        task: str,
        labels: tuple[str, ...] = (),
        by: str = "",
        note: str = "",
    ) -> ModelVersion:
        """Register a version; the same model and task again returns the existing version.

        Raises:
            ModelRegistryError: the name is not one, the registry does not take the model, or too
                many others register at once.
        """
        for _ in range(_TRIES):
            known = self.versions(name)
            for version in known:
                if (version.model, version.task) == (model, task):
                    return version
            wanted = ModelVersion(
                name=name, version=known[-1].version + 1 if known else 1, model=model, task=task,
                labels=labels, created_s=self._now(), created_by=by, note=note,
            )  # fmt: skip
            made = self._add(wanted)
            if made is not None:
                return made
        raise ModelRegistryError(f"{name}: {_TRIES} other versions were registered meanwhile")

    def promote(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        seen: int | None = None,
        by: str = "",
        why: str = "",
    ) -> AliasMove:
        """Point the alias at a version; if it points there already, that last move is returned.

        `seen` is the number of the last move that the caller knew when it decided, 0 for none:
        the alias moves only if no other move came since. With None it moves in any case.

        Raises:
            ModelRegistryError: no such version; another moved the alias since, or at this moment.
        """
        self.find(ModelAddress(name, version=version))
        moves = self.moves(name, alias)
        wanted = AliasMove(
            name=name, alias=alias, number=1, version=version, previous=None,
            moved_s=self._now(), moved_by=by, why=why,
        )  # fmt: skip
        move = next_move(moves, wanted, seen)
        if move not in moves and not self._move(move, moves):
            raise moved_meanwhile(name, alias, self.moves(name, alias))
        return move

    def roll_back(self, name: str, alias: str, *, by: str = "", why: str = "") -> AliasMove:
        """Point the alias at the version before its last move.

        Rolling back twice undoes the first: a roll-back is a move like any other.

        Raises:
            ModelRegistryError: the alias has not moved yet, or another moved it at this moment.
        """
        version, seen = move_back(name, alias, self.moves(name, alias), self._listed)
        return self.promote(name, alias, version, seen=seen, by=by, why=why)

    def _listed(self, name: str) -> str:
        """What there is of a model, for messages."""
        aliases = [(alias, move.version) for alias, move in self.aliases(name).items()]
        return listing([v.version for v in self.versions(name)], aliases, self.names)
