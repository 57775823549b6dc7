"""The fake task shows mistakes in order, and fails on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from headrace.tasks.contract import LoadRequest, Task
from headrace.tasks.registry import load_task
from schemas.errors import ConfigError
from tests.unit.tiny_models import answers
from workers.tasks.fake import FakeFault, FakeOutOfMemory, FakeTask, digest_of


def fake(
    max_length: int | None = None, *, clock: list[float] | None = None, **params: Any
) -> FakeTask:
    task = FakeTask(sleep=(clock if clock is not None else []).append)
    task.load(LoadRequest("", "cpu", "float32", max_length, params))
    return task


def test_output_is_a_function_of_each_text() -> None:
    texts = ["", "a", "bb", "😀", "a" * 5000, "a"]
    rows = answers(fake(), texts, budget=100)
    assert [r["length"] for r in rows] == [len(t) for t in texts]
    assert [r["digest"] for r in rows] == [digest_of(t) for t in texts]


def test_max_length_truncates_and_says_so() -> None:
    encoded = fake(3).encode(["abc", "abcd"])
    assert encoded.truncated.tolist() == [False, True]
    assert encoded.lengths.tolist() == [3, 3]


def test_markers_are_text_unless_faults_are_on() -> None:
    text = "__raise__ __kill__ __hang__ __oom__1 __raise_encode__"
    assert answers(fake(), [text])[0]["length"] == len(text)


@pytest.mark.parametrize("verb", ["encode", "forward", "decode"])
def test_a_marked_row_raises_in_the_verb_it_names(verb: str) -> None:
    marker = "__raise__" if verb == "forward" else f"__raise_{verb}__"
    with pytest.raises(FakeFault, match=verb):
        answers(fake(faults=True), ["fine", marker])


def test_out_of_memory_depends_on_the_tokens_of_the_batch() -> None:
    task = fake(faults=True)
    text = "__oom__20"
    assert len(answers(task, [text])) == 1
    with pytest.raises(FakeOutOfMemory) as caught:
        answers(task, [text, "x" * 20])
    assert task.is_out_of_memory(caught.value)
    assert not task.is_out_of_memory(FakeFault())


def test_kill_kills_its_own_process() -> None:
    killed: list[tuple[int, int]] = []
    task = FakeTask(kill=lambda pid, sign: killed.append((pid, sign)))
    task.load(LoadRequest("", "cpu", "float32", None, {"faults": True}))
    answers(task, ["__kill__"])
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_slow_rows_take_the_time_they_say() -> None:
    clock: list[float] = []
    answers(fake(clock=clock, faults=True, ms_per_row=2), ["a", "b __sleep_ms__50"])
    assert clock == [0.05, 0.004]


def test_it_needs_no_torch() -> None:
    code = "import sys, workers.tasks.fake, headrace.tasks.registry; print('torch' in sys.modules)"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "False"


def points(**values: str) -> list[EntryPoint]:
    return [EntryPoint(name, value, "headrace.tasks") for name, value in values.items()]


def test_a_task_is_found_by_its_name() -> None:
    task = load_task("fake", points(fake="workers.tasks.fake:FakeTask"))
    assert isinstance(task, Task)


def test_an_unknown_task_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="known tasks: fake, other"):
        load_task("nope", points(other="a:b", fake="workers.tasks.fake:FakeTask"))


@pytest.mark.parametrize("value", ["no_such_module:Task", "workers.tasks.fake:Nothing"])
def test_a_task_that_cannot_be_imported_says_where_it_is(value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        load_task("broken", points(broken=value))


def test_something_that_is_no_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks a verb"):
        load_task("odd", points(odd="collections:OrderedDict"))
