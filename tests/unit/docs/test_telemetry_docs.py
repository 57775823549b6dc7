"""docs/reference/telemetry.md names everything that can be seen, and its queries run."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.trace_file import (
    COLUMNS,
    TRACES,
    spans_to_parquet,
)
from schemas.names import log_events
from schemas.names import telemetry as names

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "telemetry.md").read_text()


def table(*rows: tuple[str, ...]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _code(name: str) -> str:
    return f"`{name}`"


def _in_prometheus(name: str) -> str:
    return names.prometheus_name(name) + "_total" * (names.METRICS[name].kind == "counter")


TABLES: dict[str, Callable[[], str]] = {
    "spans": lambda: table(*((_code(n), t) for n, t in names.SPANS.items())),
    "outcomes": lambda: table(*((_code(n), t) for n, t in names.OUTCOMES.items())),
    "attributes": lambda: table(
        *((_code(n), a.type.__name__, a.text) for n, a in names.ATTRIBUTES.items())
    ),
    "typed columns": lambda: table(*((_code(c), _code(a)) for c, a in COLUMNS.items())),
    "metrics": lambda: table(
        *(
            (
                *(_code(n), _code(_in_prometheus(n)), m.kind, _code(m.unit)),
                *(", ".join(map(_code, m.labels)), m.source, m.text),
            )
            for n, m in names.METRICS.items()
        )
    ),
    "log events": lambda: table(*((_code(n), t) for n, t in log_events.LOG_EVENTS.items())),
    "log fields": lambda: table(*((_code(n), t) for n, t in log_events.LOG_FIELDS.items())),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_holds_each_name_with_its_line(name: str) -> None:
    expected = TABLES[name]()
    assert expected in PAGE, f"docs/reference/telemetry.md, table of {name}, should be:\n{expected}"
    head, line = PAGE[: PAGE.index(expected)].split("\n")[-3:-1]
    assert line.startswith("| --- |"), f"the table of {name} has lost its head"
    assert head.count(" | ") == expected.split("\n")[0].count(" | ")


def test_the_page_explains_each_column_of_a_trace_file() -> None:
    for column in TRACES.names:
        assert f"| `{column}` |" in PAGE


def _queries() -> list[tuple[str, str]]:
    return re.findall(r"### ([^\n]+)\n(?:(?!###)[^`])*```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with the traces of three chunks, one of which failed once."""
    folder = tmp_path_factory.mktemp("out")
    (folder / "_traces").mkdir()
    for number, (chunk, outcome) in enumerate([(0, "ok"), (1, "error"), (1, "ok"), (2, "ok")]):
        observe = ChunkTrace(
            Telemetry(), job="a" * 16, chunk=chunk, attempt=f"t{number}", worker=f"w{chunk}",
            device="cpu", attempt_number=1 + (number == 2),
        )  # fmt: skip
        for stage in names.STAGES:
            for _ in range(3):
                with observe(stage, rows=10, tokens=90, padding_tokens=10):
                    pass
        error = TimeoutError() if outcome == "error" else None
        rows = observe.finish(outcome, error, rows=30, ok_rows=29, error_rows=1, tokens=270)
        (folder / "_traces" / f"part-{chunk:05d}-t{number}.spans").write_bytes(
            spans_to_parquet(rows)
        )
    return folder


def test_there_are_five_queries_or_more() -> None:
    assert len(_queries()) >= 5


@pytest.mark.parametrize(("title", "query"), _queries(), ids=[title for title, _ in _queries()])
def test_each_query_runs_and_finds_something(title: str, query: str, output: Path) -> None:
    found = duckdb.sql(query.replace("OUTPUT/", f"{output}/")).fetchall()
    assert found, title
    assert all(value is not None for row in found for value in row), found


def _calls() -> Iterator[tuple[str, str, list[str]]]:
    """Every `log.x("event", field=…)` of the product: where, event, fields."""
    for room in ("schemas", "headrace", "producers", "workers"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if "get_logger" not in path.read_text():
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "log"
                    and node.func.attr in ("debug", "info", "warning", "error")
                    and node.args
                ):
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    fields = [k.arg for k in node.keywords if k.arg and k.arg != "error"]
                    for event in _strings(node.args[0]):
                        yield where, event, fields


def _strings(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        return _strings(node.body) + _strings(node.orelse)
    return []


def test_every_line_that_is_logged_has_a_known_event_and_known_fields() -> None:
    strange = [
        (where, event, [f for f in fields if f not in log_events.LOG_FIELDS])
        for where, event, fields in _calls()
        if event not in log_events.LOG_EVENTS or set(fields) - set(log_events.LOG_FIELDS)
    ]
    assert not strange, "add them to schemas/names/log_events.py and docs/reference/telemetry.md"


KNOWN_TO_OTHERS = """
    attempt.recorded batch.halved broker.advice broker.recovered broker.unreachable budget.found
    budget.not_kept chunk.committed chunk.failed chunk.parked chunk.published chunk.released
    chunk.skipped chunk.started controller.started controller.stopped device.lost http.failed
    job.adopted job.cancelled job.failed job.finished job.paused job.resumed job.submitted
    lease.lost message.dropped message.lost message.rejected model.loaded on_finish.failed
    row.condemned scaling.changed scaling.deadline_at_risk scaling.listening scaling.moved
    scaling.unreachable store.retried telemetry.export_failed telemetry.spans_dropped
    telemetry.started telemetry.stopped trace.not_written worker.draining worker.lost
    worker.started worker.stopped
"""
"""Events that alerts and searches of users may name: they keep their names."""


def test_an_event_keeps_its_name() -> None:
    assert set(KNOWN_TO_OTHERS.split()) <= set(log_events.LOG_EVENTS)


def test_every_event_and_field_that_is_listed_is_logged_somewhere() -> None:
    calls = list(_calls())
    events = {event for _, event, _ in calls} | {"log"}
    fields = {field for _, _, fields in calls for field in fields}
    assert set(log_events.LOG_EVENTS) - events == set()
    of_the_formatter = {"logger", "message", "stack", "span_id"}
    assert set(log_events.LOG_FIELDS) - fields - of_the_formatter == set()


def test_every_metric_that_is_recorded_has_a_name() -> None:
    recorded = re.compile(r'\.record\(\s*"([^"]+)"')
    for room in ("schemas", "headrace", "producers", "workers"):
        for path in (ROOT / room).rglob("*.py"):
            for name in recorded.findall(path.read_text()):
                assert name in names.METRICS, f"{path}: {name}"


def test_names_follow_opentelemetrys_rules() -> None:
    for name in [*names.ATTRIBUTES, *names.METRICS]:
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", name)
    for name, metric in names.METRICS.items():
        assert not name.endswith(("_total", "_seconds", ".total")), "units stand in `unit`"
        assert re.fullmatch(r"\{[a-z]+\}(/s)?|s|By|1", metric.unit), name
        assert not {"job", "headrace.job", "chunk"} & set(metric.labels), "bounded cardinality"


def test_our_messaging_names_are_those_of_the_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import messaging_attributes as conventions
    from opentelemetry.semconv.attributes import error_attributes

    known = {v for k, v in vars(conventions).items() if k.startswith("MESSAGING_")}
    ours = {n for n in names.ATTRIBUTES if n.startswith("messaging.")}
    assert ours <= known
    assert error_attributes.ERROR_TYPE == names.ERROR_TYPE


if __name__ == "__main__":
    for heading, make in TABLES.items():
        print(f"## {heading}\n{make()}\n")
