"""What the next move of an alias is, from the moves so far. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schemas.errors import ModelRegistryError
from schemas.records.model_version import SCHEME, AliasMove


def next_move(
    moves: Sequence[AliasMove],
    wanted: AliasMove,
    seen: int | None,
) -> AliasMove:
    """The move to make, with its number and the version before; the last one if it points there.

    `wanted` has any number; `seen` is that of the last move that the caller knew, see
    `headrace.models.port.Registry.promote`.

    Raises:
        ModelRegistryError: another moved the alias since.
    """
    if seen is not None and seen != len(moves):
        raise moved_meanwhile(wanted.name, wanted.alias, moves)
    now = moves[-1].version if moves else None
    if now == wanted.version:
        return moves[-1]
    return wanted.model_copy(update={"number": len(moves) + 1, "previous": now})


def move_back(
    name: str, alias: str, moves: Sequence[AliasMove], listed: Callable[[str], str]
) -> tuple[int, int]:
    """The version before the last move, and that move's number.

    Raises:
        ModelRegistryError: there is none; `listed` says what there is.
    """
    if not moves or moves[-1].previous is None:
        raise ModelRegistryError(f"{SCHEME}{name}@{alias} has no version before: {listed(name)}")
    return moves[-1].previous, moves[-1].number


def moved_meanwhile(name: str, alias: str, moves: Sequence[AliasMove]) -> ModelRegistryError:
    """The error of one who comes after another."""
    now = f"version {moves[-1].version}, moved by {moves[-1].moved_by}" if moves else "nothing"
    return ModelRegistryError(f"{SCHEME}{name}@{alias} points to {now}: look again, then decide")


def listing(
    versions: Sequence[int], aliases: Sequence[tuple[str, int]], names: Callable[[], list[str]]
) -> str:
    """What a registry has of a model, or which models it has, for messages."""
    if not versions:
        return f"it knows {', '.join(names()) or 'no model'}"
    said = [f"{alias} → {version}" for alias, version in aliases]
    return f"versions {', '.join(map(str, versions))}; aliases {', '.join(said) or 'none'}"
