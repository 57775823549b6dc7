"""What the queue carries: an address, under 2 kB, never text."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.errors import MessageRejected
from schemas.records.run_key import job_key

SCORE_CHUNK = "headrace.score_chunk.v1"
MAX_RUN = 8
MAX_BYTES = 2048


class ScoreChunk(BaseModel):
    """A message: score these consecutive chunks of this job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    job: str = Field(pattern=r"^[0-9a-f]{16}$")
    output: str = Field(min_length=1, max_length=1024)
    chunks: tuple[int, ...] = Field(min_length=1, max_length=MAX_RUN)
    traceparent: str | None = Field(None, pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")

    @property
    def key(self) -> str:
        """The job in Redis, see `schemas.records.run_key.job_key`."""
        return job_key(self.job, self.output)

    @field_validator("chunks")
    @classmethod
    def _numbers(cls, chunks: tuple[int, ...]) -> tuple[int, ...]:
        if any(c < 0 or c > 2**31 for c in chunks) or len(set(chunks)) != len(chunks):
            raise ValueError("chunk numbers are distinct and between 0 and 2^31")
        return chunks


def parse_message(body: Any) -> ScoreChunk:
    """Parse the body of a message from the queue.

    Raises:
        MessageRejected: it is not a message of a version we know. The text of the error never
            repeats the body.
    """
    try:
        return ScoreChunk.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        known = [str(p) for p in first["loc"] if p in ScoreChunk.model_fields]
        where = known[0] if known else "message"  # an unknown name is the sender's text
        raise MessageRejected(f"not a score_chunk message: {where}: {first['type']}") from error
