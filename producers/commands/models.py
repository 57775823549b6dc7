"""`headrace models`: versions of models and the aliases that point to them."""

from __future__ import annotations

import os
import pwd
import socket
from datetime import datetime
from functools import partial
from typing import Any

from headrace.models.registry import open_model_registry, parse_address
from headrace.settings import Settings
from headrace.storage.open import open_store
from producers.commands.session import Session
from producers.models.reference import resolve_model
from producers.quality.reference import profile_of_output
from producers.terminal.console import columns, plain
from schemas.errors import ConfigError, ExitCode
from schemas.records.model_version import SCHEME, AliasMove, ModelVersion


def list_models(session: Session) -> int:
    """Every model with its newest version and its aliases."""
    registry = open_model_registry(session.settings)
    found = [
        (name, versions, registry.aliases(name))
        for name in registry.names()
        if (versions := registry.versions(name))
    ]
    if session.as_json:
        session.terminal.print_json({
            "models": [
                {
                    "name": name,
                    "versions": len(versions),
                    "newest": versions[-1].model_dump(mode="json"),
                    "aliases": {alias: move.version for alias, move in aliases.items()},
                }
                for name, versions, aliases in found
            ]
        })  # fmt: skip
        return ExitCode.OK
    if not found:
        session.terminal.say("no model is registered")
        return ExitCode.OK
    table = columns("model", "versions", "newest", "aliases")
    for name, versions, aliases in found:
        newest = versions[-1]
        pointed = ", ".join(f"{alias} → {move.version}" for alias, move in aliases.items())
        row = (name, str(len(versions)), f"{newest.version}: {newest.task}", pointed)
        table.add_row(*map(plain, row))
    session.terminal.show(table)
    return ExitCode.OK


def show_model(session: Session, name: str) -> int:
    """Every version of a model, and every move of its aliases."""
    registry = open_model_registry(session.settings)
    versions = registry.versions(name)
    moves = [m for alias in registry.aliases(name) for m in registry.moves(name, alias)]
    moves.sort(key=lambda move: move.moved_s)
    if not versions:
        registry.find(parse_address(f"{SCHEME}{name}/1"))  # says what there is instead
    if session.as_json:
        session.terminal.print_json({
            "name": name,
            "versions": [v.model_dump(mode="json") for v in versions],
            "moves": [m.model_dump(mode="json") for m in moves],
        })  # fmt: skip
        return ExitCode.OK
    for version in versions:
        session.terminal.say(version_line(version))
    for move in moves:
        session.terminal.say(_move_line(move))
    return ExitCode.OK


def register_model(
    session: Session,
    name: str,
    model: str,
    *,
    task: str,
    note: str,
    reference: str | None = None,
    label_column: str | None = None,
) -> int:
    """Make a version, as `make_version` does, and show it."""
    version = make_version(
        session.settings, name, model, task=task, note=note, reference=reference,
        label_column=label_column,
    )  # fmt: skip
    _print(session, version.model_dump(mode="json"), version_line(version))
    return ExitCode.OK


def make_version(
    settings: Settings,
    name: str,
    model: str,
    *,
    task: str,
    note: str,
    reference: str | None = None,
    label_column: str | None = None,
) -> ModelVersion:
    """A new version of a model, pinned by its digest; its files are checked, not copied.

    With the output `reference`, also what that output's rows look like, for `headrace drift`.
    """
    info = resolve_model(
        model, settings.revision, task, partial(open_store, settings=settings),
        allow_pickle=settings.allow_pickle, trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip
    registry, profile = open_model_registry(settings), None
    if reference is not None and not registry.keeps_profiles:
        raise ConfigError(
            "an MLflow server has no place for --reference: leave it out, and compare with an output "
            "(headrace drift --against OUTPUT)"
        )
    if reference is not None:
        profile = profile_of_output(reference, settings, label_column)
    version = registry.register(
        name, info.ref, task=task, labels=info.labels, by=_user(), note=note
    )
    if profile is not None:
        registry.keep_profile(version, profile.to_bytes())
    return version


def promote_model(
    session: Session, name: str, version: int, alias: str, *, seen: int | None, why: str
) -> int:
    """Point an alias at a version."""
    registry = open_model_registry(session.settings)
    move = registry.promote(name, alias, version, seen=seen, by=_user(), why=why)
    _print(session, move.model_dump(mode="json"), _move_line(move))
    return ExitCode.OK


def roll_back_model(session: Session, name: str, alias: str, *, why: str) -> int:
    """Point an alias at the version before its last move."""
    registry = open_model_registry(session.settings)
    move = registry.roll_back(name, alias, by=_user(), why=why)
    _print(session, move.model_dump(mode="json"), _move_line(move))
    return ExitCode.OK


def _print(session: Session, record: dict[str, Any], line: str) -> None:
    if session.as_json:
        session.terminal.print_json(record)
    else:
        session.terminal.say(line)


def version_line(version: ModelVersion) -> str:
    """A version in one line."""
    labels = f", {len(version.labels)} labels" if version.labels else ""
    note = f": {version.note}" if version.note else ""
    return (
        f"{SCHEME}{version.name}/{version.version}  {version.model.uri} "
        f"{version.model.revision[:19]}  {version.task}{labels}, "
        f"{_when(version.created_s)} by {version.created_by}{note}"
    )


def _move_line(move: AliasMove) -> str:
    before = "nothing" if move.previous is None else f"version {move.previous}"
    why = f": {move.why}" if move.why else ""
    return (
        f"{SCHEME}{move.name}@{move.alias}  {before} → version {move.version}, "
        f"{_when(move.moved_s)} by {move.moved_by}, move {move.number}{why}"
    )


def _when(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().isoformat(" ", "minutes")


def _user() -> str:
    """The user who runs this command, for the log of an alias."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a line in /etc/passwd
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
