"""Describes how two jobs differ. Pure."""

from __future__ import annotations

from typing import Any

from schemas.records.job import (
    Inputs,
    Job,
    Spec,
)


def differences(stored: Job, spec: Spec, inputs: Inputs) -> list[str]:
    """Each differing field that decides the output, as `text_column: text → body`."""
    before, after = (_all_fields(it) for it in (stored.spec, spec))
    told: list[str] = []
    for name in Spec.model_fields:
        if before[name] == after[name]:
            continue
        if name == "inputs_digest":
            told.append(_inputs(stored.inputs, inputs))
        elif name == "model":
            told += _fields("model", before[name], after[name])
        elif name == "answers_version":
            told.append("headrace: an earlier version, whose answers are others")
        elif name == "params":
            told += _fields("", before[name], after[name])
        else:
            told.append(f"{name}: {_shown(before[name])} → {_shown(after[name])}")
    return told


def _all_fields(spec: Spec) -> dict[str, Any]:
    """Every field, those too that the record leaves out where they are as usual."""
    record = spec.model_dump(mode="json")
    return {name: record.get(name, getattr(spec, name)) for name in Spec.model_fields}


def _inputs(before: Inputs, after: Inputs) -> str:
    if before.patterns != after.patterns:
        return f"inputs: {', '.join(before.patterns)} → {', '.join(after.patterns)}"
    if (before.files, before.rows) != (after.files, after.rows):
        return (
            f"inputs: {before.files} files with {before.rows:,} rows → "
            f"{after.files} files with {after.rows:,} rows"
        )
    return f"inputs: files changed in {', '.join(after.patterns)} (size, time or content)"


def _fields(prefix: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = dict.fromkeys([*before, *after])
    dotted = f"{prefix}." if prefix else ""
    return [
        f"{dotted}{name}: {_shown(before.get(name))} → {_shown(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)
