"""Structured logs: an event with fields, as one line of JSON or as text for a terminal.

`log = get_logger(__name__)`, then `log.info("chunk.committed", chunk=3, rows=500)`. Events and
fields are listed in `schemas/names/log_events.py`. All logging, Celery's included, goes through the
standard library and gets the same format: with the ids of the current trace, without credentials,
and without messages of other libraries' exceptions, which may quote a row's text.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from headrace.process.redact import (
    MASK,
    is_secret_name,
    redact,
)
from schemas.errors import HeadraceError, error_type_of
from schemas.names.log_events import LOG_FIELDS

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.settings import Settings

_FIELDS = "headrace_fields"
_QUIET = {
    "opentelemetry": logging.CRITICAL,  # we log it once per minute, as telemetry.export_failed
    "urllib3": logging.ERROR,
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "s3transfer": logging.WARNING,
    "celery.worker.strategy": logging.WARNING,  # one line per message; chunk.started says more
    "celery.app.trace": logging.WARNING,
    "kombu": logging.WARNING,
    "amqp": logging.WARNING,
    "httpx": logging.WARNING,
    "filelock": logging.WARNING,
    "matplotlib": logging.WARNING,
}


class Log:
    """A thin wrapper around a standard logger: an event, and fields by name."""

    def __init__(self, logger: logging.Logger, bound: Mapping[str, Any] | None = None) -> None:
        self._logger = logger
        self._bound = dict(bound or {})

    def bind(self, **fields: Any) -> Log:
        """The same log with these fields on every line."""
        return Log(self._logger, {**self._bound, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
        """`error` adds its class, our own message, and where it came from."""
        self._write(logging.ERROR, event, fields, error)

    def _write(
        self, level: int, event: str, fields: Mapping[str, Any], error: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            extra = {_FIELDS: {**self._bound, **fields}}
            self._logger.log(level, event, extra=extra, exc_info=error, stacklevel=3)


def get_logger(name: str) -> Log:
    """The log of a module."""
    return Log(logging.getLogger(name))


def configure_logging(
    settings: Settings, stream: IO[str] | None = None, console: Console | None = None
) -> None:
    """Send all logging of the process to the stream (default: standard error). Safe to call twice.
    `console` is a rich console that shows progress: lines are printed above its bar.
    """
    stream = stream if stream is not None else sys.stderr
    is_text = settings.log_format == "text" or (
        settings.log_format == "auto" and (console is not None or stream.isatty())
    )
    handler: logging.Handler
    if is_text and (console is not None or stream.isatty()):
        handler = _ConsoleHandler(console or _console(stream))
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))
    logging.captureWarnings(True)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line, in order: time, level, event, logger, own fields, error, trace ids."""
    ours = getattr(record, _FIELDS, None)
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage() if ours is not None else "log",
        "logger": record.name,
    }
    if ours is not None:
        line |= {name: _safe(name, value) for name, value in ours.items() if value is not None}
    else:
        line["message"] = _foreign_message(record)
    if record.exc_info and record.exc_info[1] is not None:
        line |= _error_fields(record.exc_info[1])
    return line | _trace_ids(line)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record), ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """`time level event name=value …` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = fields_of(record)
        head = [str(line.pop("time")), f"{line.pop('level'):<7}", str(line.pop("event"))]
        return " ".join(head + [f"{name}={_text(value)}" for name, value in line.items()])


class _ConsoleHandler(logging.Handler):
    """Colours, for a person at a terminal; the logger's name and the trace ids are left out."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        try:
            line = fields_of(record)
            level, style = str(line["level"]), _STYLES.get(record.levelno, "")
            text = Text.assemble(
                (line["time"][11:19], "dim"),
                " ",
                (f"{level:<7}", style),
                " ",
                (line["event"], "bold"),
            )
            for name, value in line.items():
                if name not in _SHOWN_OTHERWISE:
                    text.append(f" {name}=", "dim").append(_text(value))
            self._console.print(text, soft_wrap=True)
        except Exception:
            self.handleError(record)


_SHOWN_OTHERWISE = {"time", "level", "event", "logger", "trace_id", "span_id"}
_STYLES = {
    logging.DEBUG: "dim",
    logging.INFO: "green",
    logging.WARNING: "yellow",
    logging.ERROR: "bold red",
}


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False)


def _safe(name: str, value: Any) -> Any:
    if is_secret_name(name):
        return MASK
    if isinstance(value, bool | int | float):
        return value
    if name not in LOG_FIELDS:
        return f"<{type(value).__name__}>"
    if isinstance(value, list | tuple | set | frozenset):
        return [v if isinstance(v, bool | int | float) else redact(str(v)) for v in value]
    if isinstance(value, Mapping):
        return {redact(str(k)): _safe(name, v) for k, v in value.items()}
    return redact(str(value))


def _foreign_message(record: logging.LogRecord) -> str:
    """The message of another library; without the exception's message if Celery reports a failed task."""
    if isinstance(record.args, Mapping) and "exc" in record.args:
        return f"task {record.args.get('name')} {record.args.get('description', 'failed')}"
    return redact(record.getMessage())


def _error_fields(error: BaseException) -> dict[str, Any]:
    result: dict[str, Any] = {"error_type": error_type_of(error)}
    if isinstance(error, HeadraceError):
        result["error_message"] = redact(str(error))
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return result | ({"stack": frames[-20:]} if frames else {})


def _trace_ids(line: Mapping[str, Any]) -> dict[str, str]:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or "trace_id" in line:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return (
        json.dumps(text, ensure_ascii=False) if any(c.isspace() or c == '"' for c in text) else text
    )
