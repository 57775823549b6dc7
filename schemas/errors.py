"""Every error that headrace raises on purpose, in one tree.

    HeadraceError
    ├── UsageError                 the command cannot be carried out as asked       (never retried)
    │   ├── ConfigError            a setting is invalid, or settings contradict each other
    │   ├── InputNotFound          a path, glob or prefix that matches nothing
    │   ├── InputUnreadable        not Parquet, cut short, encrypted, no rights
    │   ├── SchemaMismatch         input files whose schemas differ
    │   ├── ColumnError            a column that is missing, not text, or collides
    │   ├── ModelError             a model that cannot be found, loaded, or has no head for the task
    │   ├── ModelRegistryError     no such version or alias, or another moved the alias first
    │   ├── OutputConflict         the output holds another job
    │   ├── OutputNotWritable      no rights to write, or a store without create-if-absent
    │   ├── JobNotFound            no job of that name, no job in that output
    │   ├── UriNotAllowed          a URI outside the configured prefixes
    │   ├── MissingExtra           a package of an extra is not installed
    │   └── PrecisionRefused       int8 is too far from float32, or could not be checked
    ├── BrokerError                Redis unreachable, wrong password                (retried)
    ├── StorageError               the store failed after our retries               (retried)
    │   └── DiskFull               no space left                                    (retried)
    ├── EndpointAway               an API that generates text does not answer       (retried)
    ├── InputChanged               an input file is not the one that was planned    (never retried)
    ├── ModelChanged               a model is not the one that was planned          (never retried)
    ├── MessageRejected            a message that is not ours or names no chunk     (never retried)
    │   └── OutOfReach             a job whose output this worker cannot see        (never retried)
    ├── OutOfMemory                the device has no memory for one single row      (row error)
    ├── NotFinite                  a model's numbers for a row hold NaN or infinity (row error)
    ├── InvalidRow                 labels or a question of a row that cannot be used (row error)
    │   └── UnknownLanguage        a language that the model does not know, or none (row error)
    ├── OutputMismatch             a task's output has not one line for each row    (row error)
    ├── DeviceLost                 the device accepts no more work of this process  (like a crash)
    ├── EngineDied                 an engine's own process ended with its rows      (like a crash)
    ├── LeaseLost                  another attempt holds the chunk                  (not an attempt)
    ├── WorkersEnded               the workers of a local run ended by themselves   (has their exit code)
    ├── Stopped                    drain, cancel or pause seen between batches      (not an attempt)
    ├── VerifyFailed               the output is not what was promised
    └── JobFailed                  a job ended in another way than finished
        └── JobCancelled           it was cancelled

Each class says whether a retry can help (`retryable`), and which exit code the commands use.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command of headrace returns to the shell. Documented in docs/reference/exit-codes.md."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CONFIG = 3
    JOB_FAILED = 4
    JOB_CANCELLED = 5
    VERIFY_FAILED = 6
    INPUT_NOT_FOUND = 10
    INPUT_UNREADABLE = 11
    SCHEMA_MISMATCH = 12
    COLUMN = 13
    MODEL = 14
    OUTPUT_CONFLICT = 15
    OUTPUT_NOT_WRITABLE = 16
    JOB_NOT_FOUND = 17
    INPUT_CHANGED = 18
    MODEL_CHANGED = 19
    BROKER = 20
    STORAGE = 21
    DISK_FULL = 22
    URI_NOT_ALLOWED = 23
    MISSING_EXTRA = 24
    PRECISION = 25
    MODEL_REGISTRY = 26
    GATE = 27
    DRIFT = 28
    CRASH_LOOP = 31
    INTERRUPTED = 130


class HeadraceError(Exception):
    """The root: a message that says what happened, where, and what to do about it."""

    exit_code: ExitCode = ExitCode.UNEXPECTED
    retryable: bool = False
    may_pass: bool = False
    """The store is at fault, not the data: it is waited for, and no attempt is counted."""

    @property
    def error_type(self) -> str:
        """The class as a metric label, a log field and a column value: `snake_case`."""
        return snake_case(type(self).__name__)


class UsageError(HeadraceError):
    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    exit_code = ExitCode.CONFIG


class InputNotFound(UsageError):
    exit_code = ExitCode.INPUT_NOT_FOUND


class InputUnreadable(UsageError):
    exit_code = ExitCode.INPUT_UNREADABLE


class SchemaMismatch(UsageError):
    exit_code = ExitCode.SCHEMA_MISMATCH


class ColumnError(UsageError):
    exit_code = ExitCode.COLUMN


class ModelError(UsageError):
    exit_code = ExitCode.MODEL


class ModelRegistryError(UsageError):
    exit_code = ExitCode.MODEL_REGISTRY


class OutputConflict(UsageError):
    exit_code = ExitCode.OUTPUT_CONFLICT


class OutputNotWritable(UsageError):
    exit_code = ExitCode.OUTPUT_NOT_WRITABLE


class JobNotFound(UsageError):
    exit_code = ExitCode.JOB_NOT_FOUND


class UriNotAllowed(UsageError):
    exit_code = ExitCode.URI_NOT_ALLOWED


class MissingExtra(UsageError):
    exit_code = ExitCode.MISSING_EXTRA


class PrecisionRefused(UsageError):
    exit_code = ExitCode.PRECISION


class BrokerError(HeadraceError):
    exit_code = ExitCode.BROKER
    retryable = True


class StorageError(HeadraceError):
    exit_code = ExitCode.STORAGE
    retryable = True
    may_pass = True


class DiskFull(StorageError):
    exit_code = ExitCode.DISK_FULL


class EndpointAway(HeadraceError):
    retryable = True
    may_pass = True


class InputChanged(HeadraceError):
    exit_code = ExitCode.INPUT_CHANGED


class ModelChanged(HeadraceError):
    exit_code = ExitCode.MODEL_CHANGED


class MessageRejected(HeadraceError):
    pass


class OutOfReach(MessageRejected):
    pass


class OutOfMemory(HeadraceError):
    pass


class NotFinite(HeadraceError):
    pass


class InvalidRow(HeadraceError):
    pass


class UnknownLanguage(InvalidRow):
    pass


class OutputMismatch(HeadraceError):
    pass


class DeviceLost(HeadraceError):
    pass


class EngineDied(HeadraceError):
    retryable = True


class LeaseLost(HeadraceError):
    pass


class WorkersEnded(HeadraceError):
    """Carries the exit code of the workers, where it is one of ours."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        if code in set(ExitCode) and code != ExitCode.OK:
            self.exit_code = ExitCode(code)


class Stopped(HeadraceError):
    """Carries why the pipeline stopped between two batches: `drain`, `cancelled` or `paused`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"stopped between batches: {reason}")
        self.reason = reason


class VerifyFailed(HeadraceError):
    exit_code = ExitCode.VERIFY_FAILED


class JobFailed(HeadraceError):
    exit_code = ExitCode.JOB_FAILED


class JobCancelled(JobFailed):
    exit_code = ExitCode.JOB_CANCELLED


def snake_case(name: str) -> str:
    """`InputChanged` becomes `input_changed`."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def error_types() -> frozenset[str]:
    """The names of all our own classes."""
    found, todo = set(), [HeadraceError]
    while todo:
        kind = todo.pop()
        found.add(snake_case(kind.__name__))
        todo += kind.__subclasses__()
    return frozenset(found)


def error_type_of(error: BaseException) -> str:
    """The name an error has in columns, metrics and logs, for ours and for others' classes."""
    return (
        error.error_type if isinstance(error, HeadraceError) else snake_case(type(error).__name__)
    )
