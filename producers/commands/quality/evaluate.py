"""`headrace evaluate`: predicted labels against gold labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from headrace.storage.open import open_store
from producers.commands.session import Session
from producers.quality.gold import Gold, evaluate, read_labels
from producers.terminal.evaluation import as_json, render_evaluation
from schemas.errors import ConfigError, ExitCode


def evaluate_output(
    session: Session,
    output: str,
    *,
    label_column: str,
    labels: str | None,
    id_column: str | None,
    slices: Sequence[str],
    renamed: str | None,
) -> int:
    """Count the parts of an output against its gold labels, and show what comes out."""
    opened = partial(open_store, settings=session.settings)
    by_id = None
    if labels is not None:
        if id_column is None:
            raise ConfigError("--labels FILE needs --id-column: its column with the rows' ids")
        by_id = read_labels(labels, id_column, label_column, opened)
    found = evaluate(opened(output), Gold(label_column, by_id, _map(renamed)), slices)
    if session.as_json:
        session.terminal.print_json(as_json(found))
    else:
        session.terminal.show(render_evaluation(found))
    return ExitCode.OK


def _map(text: str | None) -> dict[str, str]:
    """`0=negative,1=positive` as gold value → label."""
    if not text:
        return {}
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not equals for _, equals, _ in pairs):
        raise ConfigError(f"--map {text}: write GOLD=LABEL,GOLD=LABEL")
    return {gold.strip(): label.strip() for gold, _, label in pairs}
