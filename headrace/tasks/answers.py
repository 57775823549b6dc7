"""Where headrace came to answer the same job otherwise than it did before. Pure, for both sides.

A job's id is the digest of what decides its answers: input, model, task, options. headrace itself
decides them too. Where a version answers a job otherwise than the one before, the number of that
change goes into the job's record and so into its id. A job of an earlier number is never continued:
its output would mix two kinds of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.tasks.catalog import task_spec
from headrace.tasks.length_limit import stated_limit
from headrace.tasks.sentence_files import ReadJson, Scoring
from schemas.errors import ModelChanged

ASSUMED_LIMIT = 512
"""Tokens a row that were assumed, before version 2, where no file of the model was known to say."""
KNOWN_LIMITS = frozenset({"max_position_embeddings", "n_positions", "n_ctx"})
"""Names of the limit in config.json that were read before version 2."""
WRONG_ON_LONG_ROWS = frozenset({"reformer", "big_bird", "bigbird_pegasus"})
STATEFUL_POSITIONS = frozenset({"dynamic", "longrope"})
"""Types of RoPE that remember the longest row."""


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A job's model by its files, and what the job asks of it."""

    task: str
    params: Mapping[str, Any]
    max_length: int | None
    config: Mapping[str, Any]
    """config.json."""
    read: ReadJson
    where: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change of answers."""

    version: int
    words: str
    """What is otherwise since then."""
    applies: Callable[[AskedModel], bool]


def _files_decide(asked: AskedModel) -> bool:
    check = task_spec(asked.task).check_files
    found = None if check is None else check(asked.read, asked.params, asked.where)
    return isinstance(found, Scoring) and found != Scoring()


def _has_other_limit(asked: AskedModel) -> bool:
    if asked.max_length is not None:
        return False
    # T5's n_positions is no limit of its own, and was not taken for one
    known = KNOWN_LIMITS - (
        {"n_positions"} if "t5" in str(asked.config.get("model_type")) else set()
    )
    tokenizer, sentence = (
        asked.read(name) or {} for name in ("tokenizer_config.json", "sentence_bert_config.json")
    )
    before = {name: asked.config[name] for name in known if name in asked.config}
    if stated_limit(before, tokenizer, sentence) is not None:
        return False
    now = stated_limit(asked.config, tokenizer, sentence)
    return now is not None and now.tokens != ASSUMED_LIMIT


def _was_wrong_on_long_rows(asked: AskedModel) -> bool:
    rope = asked.config.get("rope_parameters") or asked.config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, Mapping) else None
    return asked.config.get("model_type") in WRONG_ON_LONG_ROWS or kind in STATEFUL_POSITIONS


def _reads_the_end(asked: AskedModel) -> bool:
    return (asked.read("tokenizer_config.json") or {}).get("truncation_side") == "left"


CHANGES = (
    Change(
        2,
        "vectors are list<float32>, and the prompt, truncate_dim, do_lower_case, include_prompt and "
        "modules of sentence-transformers' files are applied",
        lambda asked: asked.task == "feature-extraction",
    ),
    Change(2, "the activation and do_lower_case of a cross-encoder's files are applied", _files_decide),
    Change(2, f"{ASSUMED_LIMIT} tokens a row are no longer assumed: the model states another limit",
           _has_other_limit),
    Change(2, "long rows, and rows after long ones, no longer depend on their batch",
           _was_wrong_on_long_rows),
    Change(3, "of a text of over 100,000 letters the end is read, as the model's tokenizer says",
           _reads_the_end),
)  # fmt: skip
LATEST = max(change.version for change in CHANGES)


def changes_of(asked: AskedModel) -> list[Change]:
    """The changes that this job's answers show; none for a task of another package.

    Raises:
        ModelError, ConfigError: the task does not do what the model's files ask for.
    """
    if task_spec(asked.task).engine is None:
        return []
    return [change for change in CHANGES if change.applies(asked)]


def version_of(changes: list[Change]) -> int:
    """The number that goes into the job's record; 1 where nothing changed."""
    return max((change.version for change in changes), default=1)


def check_version(recorded: int, changes: list[Change], written_by: str) -> None:
    """Check that rows computed now are like those of a job of that number.

    Raises:
        ModelChanged: they are answered otherwise; says since when, and what to do.
    """
    since = [change.words for change in changes if change.version > recorded]
    if since:
        raise ModelChanged(
            f"this job was submitted by an earlier headrace{written_by}, and its model is answered "
            f"otherwise now ({'; '.join(since)}): its output would mix two kinds of rows. Submit to "
            "another output, or continue with the headrace that began it"
        )
