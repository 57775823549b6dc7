"""The cost of an output: worker time, and money if a price is known."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from headrace.storage.store import Store
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import Manifest

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a million rows."""

    worker_hours: float
    price: float | None
    """In the unit of the price of a worker-hour; None: no price is known."""


def cost_of(store: Store, job: Job, price_per_hour: float | None = None) -> Cost | None:
    """The cost of an output's computed rows; None where its manifest does not say.

    `price_per_hour` is used where the job was submitted without one. Raises StorageError.
    """
    data = store.read(output_layout.MANIFEST)
    try:
        totals = None if data is None else Manifest.model_validate_json(data).totals
    except ValidationError:
        return None
    if totals is None or not totals.computed or not totals.device_s:
        return None
    hours = totals.device_s / 3600 / totals.computed * MILLION
    own = job.predicted.price_per_hour if job.predicted else None
    price = own if own is not None else price_per_hour
    return Cost(hours, None if price is None else hours * price)
