"""What the catalogue says of a task, for ours and for those of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace.settings import Settings
from headrace.tasks.catalog import BUILT_IN, SPECS, plug_in_specs, task_spec
from headrace.tasks.registry import check_columns
from headrace.tasks.spec import Param, TaskSpec
from schemas.errors import ConfigError

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "tasks.md"
ODD = TaskSpec(
    name="odd",
    columns=("mood",),
    params=(
        Param("times", int, "", 1),
        Param("share", float, ""),
        Param("mark", str, "", "!", choices=("!", "?")),
        Param("old", bool, "", False, always=True),
    ),
)
NOT_A_SPEC = 3


def points(**values: str) -> list[EntryPoint]:
    return [EntryPoint(name, value, SPECS) for name, value in values.items()]


def test_a_package_describes_its_own_task() -> None:
    assert task_spec("odd", points(odd=f"{__name__}:ODD")) is ODD


def test_a_task_without_a_spec_takes_what_it_is_given() -> None:
    spec = task_spec("unheard-of", points())
    assert spec.resolve({"anything": [1]}) == {"anything": [1]}
    assert spec.needs_model


def test_our_own_tasks_cannot_be_described_by_others() -> None:
    assert task_spec("fake", points(fake=f"{__name__}:ODD")) is BUILT_IN["fake"]


@pytest.mark.parametrize(
    "value", ["no_such_module:SPEC", f"{__name__}:NOTHING", f"{__name__}:NOT_A_SPEC"]
)
def test_a_spec_that_cannot_be_used_stops_its_task_and_no_other(value: str) -> None:
    both = points(broken=value, odd=f"{__name__}:ODD")
    with pytest.raises(ConfigError, match="broken"):
        task_spec("broken", both)
    assert plug_in_specs(both) == [ODD]


def test_a_spec_under_another_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the TaskSpec of that name"):
        task_spec("other", points(other=f"{__name__}:ODD"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"old": False}),
        ({"times": 1, "mark": "!"}, {"old": False}),
        ({"times": 2, "mark": "?"}, {"times": 2, "mark": "?", "old": False}),
        ({"share": 1}, {"share": 1.0, "old": False}),
        ({"share": None, "old": True}, {"old": True}),
    ],
)
def test_a_default_that_was_always_recorded_stays_and_others_leave_no_trace(
    given: dict[str, Any], kept: dict[str, Any]
) -> None:
    assert ODD.resolve(given) == kept


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"times": "2"}, "no int"),
        ({"times": True}, "no int"),
        ({"times": 1.5}, "no int"),
        ({"share": "half"}, "no float"),
        ({"mark": "."}, "not one of"),
        ({"old": 1}, "no bool"),
        ({"tmies": 2}, "no option tmies"),
    ],
)
def test_an_option_of_another_name_or_type_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ODD.resolve(given)


def test_options_that_came_later_leave_the_ids_of_jobs_as_they_were() -> None:
    assert BUILT_IN["feature-extraction"].resolve({}) == {"pooling": "auto", "normalize": None}
    assert BUILT_IN["text-classification"].resolve({}) == {"scores": False, "multi_label": None}


def test_a_column_that_the_spec_does_not_name_is_refused() -> None:
    check_columns(ODD, [pa.field("mood", pa.string())])
    with pytest.raises(ConfigError, match="'loudness'"):
        check_columns(ODD, [pa.field("mood", pa.string()), pa.field("loudness", pa.int8())])


@pytest.mark.parametrize("spec", BUILT_IN.values(), ids=list(BUILT_IN))
def test_our_options_are_settings_and_stand_in_the_docs(spec: TaskSpec) -> None:
    rows = {row.split("`")[1]: row for row in PAGE.read_text().split("\n") if row.startswith("| `")}
    named = rows[spec.name]
    for param in spec.params:
        assert param.name in Settings.model_fields
        assert param.flag.split("/")[0] in named
    for column in spec.columns:
        assert f"`{column}`" in named
