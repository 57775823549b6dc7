"""How close a precision's answers are to float32's: request, result, and what the job keeps.

The question goes from `headrace` to `headrace-worker check-precision` as JSON, with rows of the
job's own corpus, and the answer comes back as JSON; what of it is kept in the job holds no text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.records.engine import PACKED

Measure = Literal["labels", "cosine", "correlation"]
"""What must agree: labels that are the same, the direction of vectors, or the course of values."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrecisionRequest(_Record):
    """A request to score these rows in float32 and in `dtype`; has everything that decides the result."""

    task: str
    params: dict[str, Any] = Field(default_factory=dict)
    model_uri: str
    model_revision: str
    dtype: str
    max_length: int | None = None
    engine: str = PACKED
    trust_remote_code: bool = False
    allow_pickle: bool = False
    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None

    def digest(self, versions: Mapping[str, str]) -> str:
        """Hex digits that identify the request and the engine: if they are equal, so is the result."""
        asked = json.dumps([self.model_dump(mode="json"), dict(versions)], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()


class Agreement(_Record):
    """The result on a sample of a job's rows."""

    dtype: str
    device: str
    rows: int
    measure: Measure
    share: float = Field(ge=-1, le=1)
    """Compared with the floor: the share of equal labels, the mean cosine, or the correlation."""
    compared: int
    """Labels (of rows or of tokens), vectors or values."""
    differing: int | None = None
    """Number of labels that differ."""
    lowest: float | None = None
    """The lowest cosine of a vector."""
    entities: float | None = None
    """Token classification: the share among tokens that either precision gives a label other
    than `O`. Most tokens have `O`, and hide what became of the others."""
    mean_difference: float
    """Of scores (a row's or token's largest), or of components of vectors."""
    max_difference: float
    speed: float
    """How many times as fast as float32, on that device, at the same batches in turns."""
    seconds: float
    """Duration of the check, including loading."""


class PrecisionCheck(_Record):
    """An agreement and its floor; in the job's record and in the manifest."""

    floor: float
    agreement: Agreement | None = None
    """None: it was not checked, and `why` says why."""
    why: str = ""
    accepted: bool = False
    """Whether the user decided beforehand to accept any result."""

    @property
    def passed(self) -> bool:
        return self.agreement is not None and self.agreement.share >= self.floor

    def sentence(self) -> str:
        """The result as a sentence without its full stop."""
        found = self.agreement
        if found is None:
            return f"not checked against float32: {self.why}"
        rows = f"{found.rows:,} rows of the corpus"
        if found.measure == "labels":
            same = f"{found.compared - (found.differing or 0):,} of "
            what = rows if found.compared == found.rows else f"{found.compared:,} tokens in {rows}"
            said = f"labels as in float32: {percent(found.share)} ({same}{what})"
        elif found.measure == "cosine":
            said = f"mean cosine to float32's vectors: {found.share:.4f} ({rows})"
        else:
            said = f"correlation with float32's values: {found.share:.4f} ({rows})"
        return said if self.passed else f"{said}, under the floor of {self.floor:g}"


def percent(share: float) -> str:
    """`99.12 %`; never 100 where something is missing."""
    return "100 %" if share >= 1 else f"{min(share, 0.9999):.2%}".replace("%", " %")
