"""Logs: one shape for every line, and nothing in them that must not be."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.process.logs import configure_logging, get_logger
from headrace.process.redact import redact
from headrace.settings import Settings
from headrace.telemetry.provider import Telemetry
from schemas.errors import StorageError


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


class Lines(io.StringIO):
    """What was logged, line by line."""

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def json_lines(**settings: Any) -> Lines:
    lines = Lines()
    configure_logging(Settings(log_format="json", **settings), lines)
    return lines


log = get_logger("headrace.test")


def test_a_line_is_one_object_with_event_and_fields() -> None:
    lines = json_lines()
    log.info("chunk.committed", chunk=3, rows=500, device="cpu", seconds=1.5, queue=None)
    (line,) = lines.objects()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "event": "chunk.committed", "logger": "headrace.test",
        "chunk": 3, "rows": 500, "device": "cpu", "seconds": 1.5,
    }  # fmt: skip


def test_lines_within_a_trace_carry_its_ids() -> None:
    lines = json_lines()
    with Telemetry().in_trace("ab" * 16, "cd" * 8):
        log.info("chunk.started")
    log.info("chunk.started")
    inside, outside = lines.objects()
    assert (inside["trace_id"], inside["span_id"]) == ("ab" * 16, "cd" * 8)
    assert "trace_id" not in outside


def test_bound_fields_are_on_every_line() -> None:
    lines = json_lines()
    log.bind(job="j1").warning("lease.lost", chunk=2)
    assert lines.objects()[0] | {"job": "j1", "chunk": 2} == lines.objects()[0]


def test_the_level_is_kept() -> None:
    lines = json_lines(log_level="warning")
    log.info("chunk.started")
    log.warning("lease.lost")
    assert [o["event"] for o in lines.objects()] == ["lease.lost"]


def test_a_newline_in_a_value_makes_no_second_line() -> None:
    for log_format in ("json", "text"):
        lines = Lines()
        configure_logging(Settings(log_format=log_format), lines)
        log.info("chunk.failed", reason='two\nlines and "quotes"')
        assert len(lines.getvalue().splitlines()) == 1


def test_text_under_a_name_that_is_no_field_is_left_out() -> None:
    lines = json_lines()
    log.info("chunk.failed", sentence="planted text", score=0.5)
    assert lines.objects()[0] | {"sentence": "<str>", "score": 0.5} == lines.objects()[0]


@pytest.mark.parametrize(
    "planted",
    [
        "redis://:hunter2@host:6379/0",
        "redis://user:hunter2@host/0",
        "rediss://user:p@hunter2/x@host/0",
        "https://minio/b/x?X-Amz-Credential=AKIDhunter2&X-Amz-Signature=hunter2",
        "aws_secret_access_key=hunter2",
        "Authorization: Bearer hunter2",
        '{"password": "hunter2"}',
        "session_token=hunter2&x=1",
    ],
)
def test_credentials_are_masked_wherever_they_stand(planted: str) -> None:
    lines = json_lines()
    log.info("broker.unreachable", broker=planted, files=[planted], reason=f"tried {planted} twice")
    logging.getLogger("kombu").warning("cannot reach %s", planted)
    logging.getLogger("kombu").warning("cannot reach " + planted)
    assert "hunter2" not in lines.getvalue()
    assert len(lines.objects()) == 3


def test_what_is_no_secret_stays_readable() -> None:
    for text in ("s3://bucket/part-00001.parquet", "me@example.org wrote", "tokens=512", "cuda:0"):
        assert redact(text) == text


def test_a_field_named_like_a_secret_is_masked_whatever_it_holds() -> None:
    lines = json_lines()
    log.info("broker.unreachable", password="hunter2", api_key=12345, tokens=7)
    assert (
        lines.objects()[0] | {"password": "***", "api_key": "***", "tokens": 7}
        == lines.objects()[0]
    )


def test_an_error_of_others_shows_its_class_and_place_and_not_its_words() -> None:
    lines = json_lines()
    try:
        raise ValueError("the text of a row")
    except ValueError as error:
        log.error("chunk.failed", error=error)
        logging.getLogger("celery.worker").exception("it broke")
    ours, celerys = lines.objects()
    assert ours["error_type"] == celerys["error_type"] == "value_error"
    assert "test_logs.py" in ours["stack"][-1]
    assert "the text of a row" not in lines.getvalue()


def test_an_error_of_ours_says_what_happened() -> None:
    lines = json_lines()
    log.error("chunk.failed", error=StorageError("s3://k:hunter2@b is gone"))
    assert lines.objects()[0]["error_message"] == "s3://***@b is gone"


def test_celerys_report_of_a_failed_task_repeats_no_exception() -> None:
    lines = json_lines()
    context = {"name": "headrace.score_chunk.v1", "id": "1", "exc": "ValueError('planted text')"}
    logging.getLogger("celery.app.trace").error(
        "Task %(name)s[%(id)s] raised unexpected: %(exc)s", context
    )
    assert "planted text" not in lines.getvalue()
    assert "headrace.score_chunk.v1" in lines.objects()[0]["message"]


def test_a_pipe_gets_json_and_a_terminal_gets_text() -> None:
    class Terminal(Lines):
        def isatty(self) -> bool:
            return True

    pipe, terminal = Lines(), Terminal()
    configure_logging(Settings(log_format="auto"), pipe)
    log.info("chunk.committed", chunk=3)
    assert pipe.objects()[0]["chunk"] == 3
    configure_logging(Settings(log_format="auto"), terminal)
    log.info("chunk.committed", chunk=3)
    assert "chunk.committed" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_configuring_twice_writes_once() -> None:
    json_lines()
    lines = json_lines()
    log.info("chunk.started")
    assert len(lines.objects()) == 1
