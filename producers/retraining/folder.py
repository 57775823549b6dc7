"""The folder of a retraining, and the records of earlier ones of the same policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import TypeVar

from pydantic import ValidationError

from headrace.storage.store import Store
from schemas.errors import OutputConflict
from schemas.records.retraining import RetrainingBegun, RetrainingVerdict

BEGUN = "begun.json"
VERDICT = "verdict.json"
_FOLDER = re.compile(r"^(\d{4}-\d\d-\d\d)-[0-9a-f]{12}/begun\.json$")

Record = TypeVar("Record", RetrainingBegun, RetrainingVerdict)


def folder_name(day: date, id_: str) -> str:
    return f"{day.isoformat()}-{id_}"


def read_record(store: Store, name: str, kind: type[Record]) -> Record | None:
    """A record of a retraining; None while there is none.

    Raises:
        OutputConflict: it cannot be read.
    """
    data = store.read(name)
    try:
        return None if data is None else kind.model_validate_json(data)
    except ValidationError as error:
        raise OutputConflict(f"{store.uri}/{name} cannot be read") from error


def keep_record(store: Store, name: str, record: Record) -> Record:
    """Create the record; returns the existing one if there is one."""
    if store.create(name, (record.model_dump_json(indent=1) + "\n").encode()):
        return record
    return read_record(store, name, type(record)) or record


def earlier_trainings(store: Store, before: date) -> Iterator[RetrainingBegun]:
    """Trainings of this policy that began before this day, the earliest first."""
    for info in store.list():
        match = _FOLDER.match(info.name)
        if match is not None and date.fromisoformat(match[1]) < before:
            found = read_record(store, info.name, RetrainingBegun)
            if found is not None:
                yield found
