"""`headrace compare`: one output against another."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from headrace.process.atomic_file import write_atomically
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.commands.quality.evaluate import entity_gold_of, gold_of
from producers.commands.session import Session
from producers.quality.comparison import Flip, compare
from producers.quality.cost import Cost, cost_of
from producers.quality.gold_entities import finds_entities
from producers.quality.paired import Gate, refusals
from producers.quality.pairs.compared_entities import ChangedRow, compare_entities
from producers.quality.pairs.entity_changes import refusals_of_entities
from producers.terminal.compared_entities import as_json as entities_as_json
from producers.terminal.compared_entities import render_compared_entities
from producers.terminal.comparison import as_json, render_comparison
from schemas.errors import ConfigError, ExitCode
from schemas.records.job import Job


def compare_outputs(
    session: Session,
    a: str,
    b: str,
    *,
    label_column: str | None,
    slices: Sequence[str],
    gate: Path | None,
    ask: int | None,
    ask_to: Path,
    labels: str | None = None,
    id_column: str | None = None,
    renamed: str | None = None,
    tokens_column: str | None = None,
) -> int:
    """Show what changed from A to B; with a gate, its verdict as the exit code."""
    asked = None if gate is None else read_gate(gate)
    opened = partial(open_store, settings=session.settings)
    names = list(dict.fromkeys([*slices, *((asked.slices if asked else None) or {})]))
    stores, ask = (opened(a), opened(b)), ask or 0
    is_of_entities = finds_entities(stores[0])
    check_gate(asked, is_of_entities=is_of_entities)
    refused = None
    questions: list[dict[str, Any]]
    if is_of_entities:
        if renamed is not None:
            raise ConfigError("--map names labels of whole texts: entities carry their labels")
        spans = entity_gold_of(label_column, labels, id_column, tokens_column, opened)
        entities = compare_entities(*stores, gold=spans, slices=names, ask=ask)
        entities.costs = _costs(session, stores, entities.a, entities.b)
        if asked is not None:
            refused = refusals_of_entities(
                asked, entities.agreement, entities.paired, entities.slices
            )
        record, table = (
            entities_as_json(entities, refused),
            render_compared_entities(entities, refused),
        )
        questions = [_entity_question(row, entities.chance) for row in entities.drawn]
    else:
        gold = gold_of(label_column, labels, id_column, renamed, opened)
        found = compare(*stores, gold=gold, slices=names, ask=ask)
        found.costs = _costs(session, stores, found.a, found.b)
        if asked is not None:
            refused = refusals(asked, found.agreement, found.paired, found.slices)
        record, table = as_json(found, refused), render_comparison(found, refused)
        questions = [_question(flip, found.chance) for flip in found.drawn]
    if ask:
        write_atomically(ask_to, "".join(f"{json.dumps(q)}\n" for q in questions))
        session.terminal.note(f"rows to label: {ask_to}")
    if session.as_json:
        session.terminal.print_json(record)
    else:
        session.terminal.show(table)
    return ExitCode.GATE if refused else ExitCode.OK


def _costs(
    session: Session, stores: tuple[Store, Store], a: Job, b: Job
) -> tuple[Cost | None, Cost | None]:
    price = session.settings.price_per_hour
    return cost_of(stores[0], a, price), cost_of(stores[1], b, price)


def check_gate(gate: Gate | None, *, is_of_entities: bool) -> None:
    """Check that the gate's conditions are of the task that is compared.

    Raises:
        ConfigError: accuracy of entities, or F1 of labels.
    """
    if gate is None:
        return
    if is_of_entities and gate.min_accuracy_delta is not None:
        raise ConfigError("a gate of entities has min_f1_delta, not min_accuracy_delta")
    if not is_of_entities and gate.min_f1_delta is not None:
        raise ConfigError("min_f1_delta is for entities: a gate of labels has min_accuracy_delta")


def read_gate(path: Path) -> Gate:
    """The gate in a TOML file.

    Raises:
        ConfigError: the file is missing, no TOML, or has a key or value that no gate has.
    """
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--gate {path}: {error}") from error
    slices = found.pop("slices", {})
    known = {"min_accuracy_delta", "min_f1_delta", "max_flips"}
    strange = [*(found.keys() - known)]
    if strange:
        raise ConfigError(f"--gate {path}: {strange[0]} is not one of {', '.join(sorted(known))}")
    numbers = [*found.values(), *(slices.values() if isinstance(slices, dict) else [None])]
    if any(not isinstance(n, int | float) or isinstance(n, bool) for n in numbers):
        raise ConfigError(f"--gate {path}: every value is a number, and slices is a table")
    return Gate(**found, slices=slices)


def _question(flip: Flip, chance: float) -> dict[str, Any]:
    return {
        "id": flip.id, "label_a": flip.before, "label_b": flip.after,
        "score_a": flip.score_a, "score_b": flip.score_b, "probability": chance,
    }  # fmt: skip


def _entity_question(row: ChangedRow, chance: float) -> dict[str, Any]:
    return {"id": row.id, "entities_a": row.a, "entities_b": row.b, "probability": chance}
