"""Tokens in and out, their speed and the time to the first one: of the engine, and as metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.names import telemetry as names
from tests.unit.generation.engine_runs import Events, loaded, prompts_of
from tests.unit.generation.peaked import examples
from tests.unit.generation.test_task import TEXTS
from tests.unit.generation.test_task import loaded as loaded_task
from tests.unit.one_chunk import ListSink, Marks, observe_nothing, run_source, source
from workers.execution.metrics import record_generation
from workers.pipeline.generating.counts import GenerationCounts


class _Telemetry:
    def __init__(self) -> None:
        self.told: list[tuple[str, float, dict[str, str]]] = []

    def record(self, metric: str, value: float, **labels: str) -> None:
        self.told.append((metric, value, labels))


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_each_row_has_a_first_token_once(family: str, tmp_path: Path) -> None:
    events, asked = Events(), prompts_of([ids for ids, _ in examples(9, 2)])
    answers = list(loaded(tmp_path, family).generate(asked, events, 200))
    assert len(answers) == 9
    assert sum(rows for rows, _ in events.firsts) == 9
    assert len(events.firsts) > 1
    assert all(seconds > 0 for _, seconds in events.firsts)


def test_a_chunk_counts_what_it_read_and_wrote(tmp_path: Path) -> None:
    sink = ListSink()
    stats: Any = run_source(
        source([*TEXTS, "w1 " * 200], 4), loaded_task(tmp_path), sink, observe_nothing, Marks()
    )
    counts = stats.generation
    rows = [row for row in sink.rows if row["status"] == "ok"]
    assert counts.prompt_tokens == sum(row["n_tokens"] for row in rows)
    assert counts.generated_tokens == sum(row["n_generated"] for row in rows)
    assert sum(n for n, _ in counts.first_tokens) == len(rows)
    assert counts.tokens_per_s > 0


def test_the_counts_are_metrics_and_attributes() -> None:
    told = _Telemetry()
    counts = GenerationCounts(30, 12, 2.0, [(1, 0.4), (3, 0.2)])
    record_generation(told, counts, "w", "cpu")  # type: ignore[arg-type]
    assert told.told == [
        (names.GENERATION_TOKENS, 30, {"direction": "in"}),
        (names.GENERATION_TOKENS, 12, {"direction": "out"}),
        (names.GENERATION_SPEED, 6.0, {"worker": "w", "device": "cpu"}),
        (names.FIRST_TOKEN, 0.4, {}),
        *[(names.FIRST_TOKEN, 0.2, {})] * 3,
    ]
    assert counts.attributes() == {
        "prompt_tokens": 30, "generated_tokens": 12, "generated_tokens_per_s": 6.0,
        "time_to_first_token_s": pytest.approx(0.25),
    }  # fmt: skip


def test_a_job_that_does_not_generate_tells_nothing() -> None:
    told = _Telemetry()
    record_generation(told, GenerationCounts(), "w", "cpu")  # type: ignore[arg-type]
    assert told.told == []
    assert GenerationCounts().attributes() == {}
