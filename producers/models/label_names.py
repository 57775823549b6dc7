"""Whether a configuration names a classifier's labels one by one. Pure.

transformers takes what is there: a number without a name is a KeyError when it is predicted, and a
`num_labels` that contradicts `id2label` replaces all names by LABEL_0, LABEL_1, ….
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.errors import ModelError


def check_label_names(config: Mapping[str, Any], where: str) -> None:
    """Check that `id2label` names each label, by the numbers from 0 on.

    `config` is config.json; nothing is said of one that names no labels.

    Raises:
        ModelError: it does not, or `num_labels` says another number of labels.
    """
    named = config.get("id2label")
    if named is None:
        return
    why = _fault(named, config.get("num_labels"))
    if why:
        raise ModelError(f"model {where}: id2label in config.json {why}; put it right")


def _fault(named: Any, count: Any) -> str | None:
    if not isinstance(named, Mapping):
        return f"is no object, but {str(named)[:80]}"
    for number, name in named.items():
        if not isinstance(name, str | int | float):
            return f"has no name for label {number}, but {str(name)[:80]}"
    numbers = {_number(number) for number in named}
    if numbers != set(range(len(named))):
        shown = ", ".join(map(str, list(named)[:8]))
        return f"numbers its labels {shown}, not from 0 to {len(named) - 1}"
    if named and isinstance(count, int) and count != len(named):
        return f"has {len(named)} labels, and num_labels there says {count}"
    return None


def _number(key: Any) -> int | None:
    try:
        return int(key)
    except (TypeError, ValueError):
        return None


def contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Labels that `id2label` and `label2id` number differently, as warnings."""
    named, numbered = config.get("id2label"), config.get("label2id")
    if not isinstance(named, Mapping) or not isinstance(numbered, Mapping):
        return
    places: dict[str, set[int | None]] = {}
    for number, name in named.items():
        places.setdefault(str(name), set()).add(_number(number))
    for name, number in numbered.items():
        found = places.get(str(name))
        if found and _number(number) not in found:
            yield (
                f"label {name} is {', '.join(map(str, found))} in id2label and {number} in label2id "
                "of config.json; id2label counts"
            )
