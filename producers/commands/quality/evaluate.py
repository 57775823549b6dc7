"""`headrace evaluate`: predicted labels or entities against gold ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.formats.opener import OpenStore
from headrace.storage.open import open_store
from producers.commands.session import Session
from producers.quality.gold import Gold, evaluate, read_labels
from producers.quality.gold_entities import (
    EntityGold,
    evaluate_entities,
    finds_entities,
    read_entities,
)
from producers.terminal.entities import as_json as entities_as_json
from producers.terminal.entities import render_entities
from producers.terminal.evaluation import as_json, render_evaluation
from schemas.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType


def evaluate_output(
    session: Session,
    output: str,
    *,
    label_column: str,
    labels: str | None,
    id_column: str | None,
    slices: Sequence[str],
    renamed: str | None,
    tokens_column: str | None = None,
) -> int:
    """Count the parts of an output against its gold labels, and show what comes out."""
    opened = partial(open_store, settings=session.settings)
    store = opened(output)
    if finds_entities(store):
        entity_gold = entity_gold_of(label_column, labels, id_column, tokens_column, opened)
        assert entity_gold is not None
        entities = evaluate_entities(store, entity_gold, slices)
        return _show(session, entities_as_json(entities), render_entities(entities))
    gold = gold_of(label_column, labels, id_column, renamed, opened)
    assert gold is not None
    found = evaluate(store, gold, slices)
    return _show(session, as_json(found), render_evaluation(found))


def gold_of(
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    renamed: str | None,
    opened: OpenStore,
) -> Gold | None:
    """Where gold labels come from, as the options say; None where no option says it.

    Raises:
        ConfigError: options that need one another; see also `read_labels`.
    """
    if label_column is None:
        if labels is not None:
            raise ConfigError("--labels FILE needs --label-column: its column with the gold label")
        return None
    by_id = None
    if labels is not None:
        by_id = read_labels(labels, _given(id_column), label_column, opened)
    return Gold(label_column, by_id, read_map(renamed))


def entity_gold_of(
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    tokens_column: str | None,
    opened: OpenStore,
) -> EntityGold | None:
    """Where gold entities come from, as the options say; None where no option says it.

    Raises:
        ConfigError: options that need one another; see also `read_entities`.
    """
    if label_column is None:
        if labels is not None or tokens_column is not None:
            raise ConfigError("gold entities need --label-column: the column with spans or tags")
        return None
    found = EntityGold(label_column, tokens_column)
    if labels is None:
        return found
    return replace(found, by_id=read_entities(labels, _given(id_column), found.columns, opened))


def _given(id_column: str | None) -> str:
    """The column of a file of labels that has the rows' ids.

    Raises:
        ConfigError: no option says which.
    """
    if id_column is None:
        raise ConfigError("--labels FILE needs --id-column: its column with the rows' ids")
    return id_column


def _show(session: Session, record: dict[str, Any], table: RenderableType) -> int:
    if session.as_json:
        session.terminal.print_json(record)
    else:
        session.terminal.show(table)
    return ExitCode.OK


def read_map(text: str | None) -> dict[str, str]:
    """`0=negative,1=positive` as gold value → label."""
    if not text:
        return {}
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not equals for _, equals, _ in pairs):
        raise ConfigError(f"--map {text}: write GOLD=LABEL,GOLD=LABEL")
    return {gold.strip(): label.strip() for gold, _, label in pairs}
