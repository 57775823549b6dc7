"""Which outputs have jobs: one small object a job, in a folder of the user's or at `--registry`.

It lets a controller with an empty Redis find its jobs again, and a person who knows only a job's
id find its output. The outputs themselves stay the truth: an entry that is missing or stale loses
nothing but the way there.
"""

from __future__ import annotations

import hashlib
import re

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.settings import Settings, state_folder
from headrace.storage.store import ObjectInfo, Store
from schemas.errors import JobNotFound
from schemas.records.job import Job
from schemas.records.manifest import JobState

_PREFIX = "jobs/"
_JOB_ID = re.compile(r"[0-9a-f]{1,16}")


class Entry(BaseModel):
    """What the registry knows of a job."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    output: str = Field(min_length=1, max_length=1024)
    submitted_s: float
    state: JobState = "running"
    task: str = ""
    rows: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ("finished", "failed", "cancelled")


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name; by default `registry/` in the user's state folder."""
    from headrace.storage.open import open_store

    uri = settings.registry or str(state_folder() / "registry")
    # the registry is the user's own place, not one that a job may name
    return Registry(open_store(uri, settings.model_copy(update={"allowed_prefixes": ()})))


class Registry:
    """Entries by output; safe for several processes, the last writer of an entry wins.

    Every method raises StorageError (or its kin) when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, tuple[str, Entry | None]] = {}
        """By name: the entry that was read, and its etag then."""

    def add(self, job: Job) -> Entry:
        """Remember a job; safe to call again, which makes it `running` once more."""
        entry = Entry(
            id=job.id,
            output=job.output,
            submitted_s=job.submitted_s,
            task=job.spec.task,
            rows=job.rows,
        )
        self._write(entry)
        return entry

    def update(self, job_or_output: str, state: JobState) -> Entry:
        """Store a job's state; an output identifies the job, an id only if it has a single output.

        Raises:
            JobNotFound: the registry has no such job, or several of that id.
        """
        entry = self.find(job_or_output)
        if entry is None:
            raise JobNotFound(f"the registry {self._store.uri} has no job {job_or_output}")
        if entry.state != state:
            entry = entry.model_copy(update={"state": state})
            self._write(entry)
        return entry

    def forget(self, output: str) -> None:
        """Take the entry away; no error when there is none."""
        self._store.delete(_name(output))

    def list(self) -> list[Entry]:
        """Every entry that can be read, the latest first; what did not change is read once."""
        found = [self._read_listed(info) for info in self._store.list(_PREFIX)]
        entries = [entry for entry in found if entry is not None]
        return sorted(entries, key=lambda e: (-e.submitted_s, e.output))

    def running(self) -> tuple[Entry, ...]:
        """Entries of jobs that have not ended, the earliest first."""
        return tuple(entry for entry in reversed(self.list()) if not entry.ended)

    def find(self, job_or_output: str) -> Entry | None:
        """The entry of a job by its id or the beginning of it, or of an output; None when unknown.

        Raises:
            JobNotFound: the id belongs to jobs in several outputs; the message lists them.
        """
        from headrace.storage.uri import normalise_uri

        if not _JOB_ID.fullmatch(job_or_output):
            return self._read(_name(normalise_uri(job_or_output)))
        found = [entry for entry in self.list() if entry.id.startswith(job_or_output)]
        if len(found) > 1:
            known = "; ".join(f"{entry.id} in {entry.output}" for entry in found)
            raise JobNotFound(f"{job_or_output} is not one job: {known}; name its output")
        return found[0] if found else None

    def _write(self, entry: Entry) -> None:
        self._store.replace(_name(entry.output), entry.model_dump_json().encode())

    def _read_listed(self, info: ObjectInfo) -> Entry | None:
        etag, entry = self._kept.get(info.name, ("", None))
        if etag != info.etag:
            entry = self._read(info.name)
            self._kept[info.name] = (info.etag, entry)
        return entry

    def _read(self, name: str) -> Entry | None:
        data = self._store.read(name)
        try:
            return None if data is None else Entry.model_validate_json(data)
        except ValidationError:
            return None


def _name(output: str) -> str:
    """One entry an output: the same job may run into two outputs, and has one id then."""
    return f"{_PREFIX}{hashlib.sha256(output.encode()).hexdigest()[:32]}.json"
