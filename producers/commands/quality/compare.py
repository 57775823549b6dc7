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
from producers.commands.quality.evaluate import gold_of
from producers.commands.session import Session
from producers.quality.comparison import Compared, Flip, compare
from producers.quality.cost import cost_of
from producers.quality.paired import Gate, refusals
from producers.terminal.comparison import as_json, render_comparison
from schemas.errors import ConfigError, ExitCode


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
) -> int:
    """Show what changed from A to B; with a gate, its verdict as the exit code."""
    asked = None if gate is None else read_gate(gate)
    opened = partial(open_store, settings=session.settings)
    names = [*slices, *((asked.slices if asked else None) or {})]
    gold = gold_of(label_column, labels, id_column, renamed, opened)
    found = compare(
        opened(a), opened(b), gold=gold, slices=list(dict.fromkeys(names)), ask=ask or 0
    )
    price = session.settings.price_per_hour
    found.costs = (cost_of(opened(a), found.a, price), cost_of(opened(b), found.b, price))
    refused = None
    if asked is not None:
        refused = refusals(asked, found.agreement, found.paired, found.slices)
    if ask is not None:
        _write_questions(found, ask_to)
        session.terminal.note(f"rows to label: {ask_to}")
    if session.as_json:
        session.terminal.print_json(as_json(found, refused))
    else:
        session.terminal.show(render_comparison(found, refused))
    return ExitCode.GATE if refused else ExitCode.OK


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
    known = {"min_accuracy_delta", "max_flips"}
    strange = [*(found.keys() - known)]
    if strange:
        raise ConfigError(f"--gate {path}: {strange[0]} is not one of {', '.join(sorted(known))}")
    numbers = [*found.values(), *(slices.values() if isinstance(slices, dict) else [None])]
    if any(not isinstance(n, int | float) or isinstance(n, bool) for n in numbers):
        raise ConfigError(f"--gate {path}: every value is a number, and slices is a table")
    return Gate(**found, slices=slices)


def _write_questions(found: Compared, path: Path) -> None:
    lines = [json.dumps(_question(flip, found.chance)) for flip in found.drawn]
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def _question(flip: Flip, chance: float) -> dict[str, Any]:
    return {
        "id": flip.id, "label_a": flip.before, "label_b": flip.after,
        "score_a": flip.score_a, "score_b": flip.score_b, "probability": chance,
    }  # fmt: skip
