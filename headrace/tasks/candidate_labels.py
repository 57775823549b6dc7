"""Candidate labels of a zero-shot job, as a person gives them and as a job's record holds them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.tasks.sentence_files import check_adapter
from schemas.errors import ConfigError, InvalidRow, ModelError

DEFAULT_TEMPLATE = "This example is {}."
LABEL = "candidate label"
ASSUMED_LABELS = 10
"""A row, for estimates, where a column has them. Chosen."""


def labels_of(value: str, what: str = LABEL) -> list[str]:
    """The labels in a text: a JSON array of strings, or names with commas between them.

    `what` is what they are called in a message.

    Raises:
        InvalidRow: there is none, one is empty, or one is there twice.
    """
    found: Any = None
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except ValueError:
            found = None
    if found is None:
        found = [part.strip() for part in value.split(",")]
    check_labels(found, what)
    return list(found)


def check_labels(labels: Sequence[Any], what: str = LABEL) -> None:
    """Check labels that are to be compared with each other.

    Raises:
        InvalidRow: there is none, one is no text or empty, or one is there twice.
    """
    if not labels or list(labels) == [""]:
        raise InvalidRow(f"there is no {what}")
    for at, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise InvalidRow(f"{what} {at + 1} of {len(labels)} is empty")
    # each of two equal labels would get half of the score
    label, times = Counter(labels).most_common(1)[0]
    if times > 1:
        raise InvalidRow(f"{what} {label!r} is there {times} times")


def settle(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as the record holds them: labels as a JSON array, read from their file.

    Raises:
        ConfigError: labels are given twice or not at all, or cannot be used; a template without a
            place for the label.
    """
    found = dict(params)
    given, column = found.get("candidate_labels"), found.get("labels_column")
    if (given is None) == (column is None):
        raise ConfigError(
            "zero-shot-classification needs --candidate-labels (a,b,c or a file with one a line) "
            "or --labels-column, one of both"
        )
    template = found.get("hypothesis_template") or DEFAULT_TEMPLATE
    try:
        fits = template.format("a") != template
    except (IndexError, KeyError, ValueError, AttributeError) as error:
        raise ConfigError(f"--hypothesis-template {template!r}: {error}") from error
    if not fits:
        raise ConfigError(f"--hypothesis-template {template!r} has no {{}} for the label")
    if given is not None:
        found["candidate_labels"] = as_recorded(given, "--candidate-labels")
    return found


def as_recorded(given: str, option: str, what: str = LABEL) -> str:
    """Labels that an option gives, or the file it names, as a JSON array.

    Raises:
        ConfigError: they cannot be used.
    """
    try:
        labels = _from_file(given, what) or labels_of(given, what)
    except InvalidRow as error:
        raise ConfigError(f"{option}: {error}") from error
    return json.dumps(labels, ensure_ascii=False)


def _from_file(value: str, what: str) -> list[str] | None:
    """The lines of a file of that name; None where there is none."""
    if value.lstrip().startswith("[") or len(value) > 4096 or "\n" in value:
        return None
    path = Path(value).expanduser()
    if not path.is_file():
        if value.endswith(".txt"):
            raise InvalidRow(f"there is no file {value}")
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRow(f"{value} cannot be read: {error}") from error
    labels = [line.strip() for line in lines if line.strip()]
    check_labels(labels, what)
    return labels


def items_of(params: Mapping[str, Any]) -> float:
    """Labels of a row."""
    given = params.get("candidate_labels")
    return ASSUMED_LABELS if given is None else len(labels_of(given))


def hypothesis_bytes(params: Mapping[str, Any]) -> float:
    """Mean length of what is appended to the text for a label."""
    template = params.get("hypothesis_template") or DEFAULT_TEMPLATE
    given = params.get("candidate_labels")
    labels = ["about ten"] if given is None else labels_of(given)
    return sum(len(template.format(label).encode()) for label in labels) / len(labels)


def entailment_of(label2id: Mapping[str, int], where: str) -> tuple[int, int]:
    """Ids of contradiction and entailment.

    Raises:
        ModelError: no label is called entailment; the pipeline would take the last one.

    Source: transformers 5.23, ZeroShotClassificationPipeline
    """
    for label, at in label2id.items():
        if str(label).lower().startswith("entail"):
            return (-1 if int(at) == 0 else 0), int(at)
    listed = ", ".join(map(str, label2id)) or "none"
    raise ModelError(
        f"{where}: zero-shot-classification needs a model with a label called entailment; its "
        f"labels: {listed}"
    )


def ids_of_labels(
    label2id: Mapping[str, int] | None, id2label: Mapping[Any, str] | None
) -> dict[str, int]:
    """Label → id, from whichever of both a configuration has."""
    if label2id:
        return {str(name): int(at) for name, at in label2id.items()}
    return {str(name): int(at) for at, name in (id2label or {}).items()}


def check_entailment(
    read: Callable[[str], Any], params: Mapping[str, Any], where: str
) -> tuple[int, int]:
    """As `entailment_of`, from the model's files; no adapter is among them."""
    check_adapter(read, where)
    config = read("config.json") or {}
    known = ids_of_labels(config.get("label2id"), config.get("id2label"))
    if not known:
        known = {f"LABEL_{at}": at for at in range(config.get("num_labels", 2))}
    return entailment_of(known, where)
