"""What a finished training left in its output."""

from __future__ import annotations

from pydantic import ValidationError

from headrace.storage.store import Store
from schemas.errors import OutputConflict
from schemas.names import output_layout
from schemas.records.training import TrainingResult


def result_of(store: Store) -> TrainingResult | None:
    """The record of the training; None while there is no model.

    Raises:
        OutputConflict: it cannot be read.
    """
    data = store.read(output_layout.TRAINING_RESULT)
    try:
        return None if data is None else TrainingResult.model_validate_json(data)
    except ValidationError as error:
        raise OutputConflict(
            f"{store.uri}/{output_layout.TRAINING_RESULT} cannot be read ({error.error_count()} faults)"
        ) from error
