"""The record in a challenger's output of the job whose rows it got."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.storage.store import Store
from schemas.errors import OutputConflict
from schemas.names import output_layout


class Challenger(BaseModel):
    """`_headrace/challenger.json`: created only if absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str = Field(pattern=r"^[0-9a-f]{16}$")
    """The job whose model is challenged."""
    output: str
    share: float = Field(gt=0, le=1)
    """Share of the texts, selected by hash."""
    rows: int
    """Number of rows that were selected."""


def read_challenger(store: Store) -> Challenger | None:
    """The record in an output; None if the output is not a challenger's.

    Raises:
        OutputConflict: there is a record that cannot be read.
    """
    data = store.read(output_layout.CHALLENGER)
    if data is None:
        return None
    try:
        return Challenger.model_validate_json(data)
    except ValidationError as error:
        raise OutputConflict(f"{store.uri}/{output_layout.CHALLENGER} cannot be read") from error
