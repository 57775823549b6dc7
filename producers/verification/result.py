"""The result of a verification: verdict, counts, problems; and its JSON certificate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.errors import VerifyFailed
from schemas.records.job import Job
from schemas.versions import versions

KEPT_PROBLEMS = 100
"""Chosen: enough to see a pattern; all are counted."""

Verdict = Literal["verified", "incomplete", "wrong"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem: its kind, its place and a message."""

    kind: str
    where: str
    message: str


@dataclass(slots=True)
class VerifyResult:
    """What the recount found."""

    job: Job
    checked_s: float
    chunks: int = 0
    parts: int = 0
    rows: int = 0
    ok: int = 0
    errors: int = 0
    bytes: int = 0
    errors_by_type: Counter[str] = field(default_factory=Counter)
    state: str = "running"
    """The manifest's, or `running` where there is none."""
    manifest_sha256: str | None = None
    parts_sha256: str = ""
    """Over the line `name sha256` of each part, in order of chunks."""
    problems: list[Problem] = field(default_factory=list)
    """The first 100."""
    problem_count: int = 0
    notes: list[str] = field(default_factory=list)
    """Observations that are not problems."""

    @property
    def complete(self) -> bool:
        return self.parts == self.chunks

    @property
    def verdict(self) -> Verdict:
        if self.problem_count:
            return "wrong"
        return "verified" if self.complete and self.state == "finished" else "incomplete"

    @property
    def ok_overall(self) -> bool:
        """Whether every row is there once, in order, and the job has ended."""
        return self.verdict == "verified"

    def wrong(self, kind: str, where: str, message: str) -> None:
        self.problem_count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem(kind, where, message))

    def raise_if_wrong(self) -> None:
        """Raise if the job is not verified.

        Raises:
            VerifyFailed: with the first problem, or what is still missing.
        """
        if self.verdict == "wrong":
            first = self.problems[0]
            more = f", and {self.problem_count - 1} more" if self.problem_count > 1 else ""
            raise VerifyFailed(f"{first.where}: {first.message} ({first.kind}){more}")
        if self.verdict == "incomplete":
            raise VerifyFailed(
                f"{self.job.output} is not complete: {self.parts} of {self.chunks} parts, the job "
                f"is {self.state}; nothing that is there is wrong"
            )

    def to_json(self) -> dict[str, Any]:
        """The certificate."""
        spec = self.job.spec
        return {
            "certificate": "headrace verify 1",
            "verdict": self.verdict,
            "checked_s": self.checked_s,
            "job": self.job.id,
            "output": self.job.output,
            "state": self.state,
            "inputs": {
                "digest": spec.inputs_digest,
                "files": self.job.inputs.files,
                "rows": self.job.rows,
            },
            "task": spec.task,
            "model": spec.model.uri,
            "model_revision": spec.model.revision,
            "dtype": spec.dtype,
            "chunks": self.chunks,
            "parts": self.parts,
            "rows": self.rows,
            "ok": self.ok,
            "errors": self.errors,
            "errors_by_type": dict(sorted(self.errors_by_type.items())),
            "bytes": self.bytes,
            "manifest_sha256": self.manifest_sha256,
            "parts_sha256": self.parts_sha256,
            "problem_count": self.problem_count,
            "problems": [
                {"kind": p.kind, "where": p.where, "message": p.message} for p in self.problems
            ],
            "notes": list(self.notes),
            "versions": versions(),
        }


def problem_lines(result: VerifyResult) -> Iterator[str]:
    """One line per problem, for people."""
    for problem in result.problems:
        yield f"{problem.where}: {problem.message} [{problem.kind}]"
    if result.problem_count > len(result.problems):
        yield f"… and {result.problem_count - len(result.problems)} more"
