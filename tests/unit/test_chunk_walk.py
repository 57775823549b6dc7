"""The way of a chunk that the documentation tells of is the way in the source, and grows no longer."""

from __future__ import annotations

from pathlib import Path

from tests.chunk_walk import ROOT, WAY, Step, faults, length, stays

HOUSE = (ROOT / "docs" / "development" / "house.md").read_text()


def test_each_step_is_a_call_in_the_source() -> None:
    assert faults(WAY) == []


def test_a_call_that_is_gone_is_found() -> None:
    run = "producers/cli.py:run"
    gone = Step(run, "producers/commands/run.py:no_such")
    other = Step(run, "producers/commands/run.py:run_job")  # it calls `run_from_cold`
    unsaid = Step("", run)
    assert faults([gone]) == [
        "producers/commands/run.py:no_such is gone",
        "producers/cli.py:run does not name no_such",
    ]
    assert faults([other]) == ["producers/cli.py:run does not name run_job"]
    assert faults([unsaid]) == ["producers/cli.py:run: neither a caller nor a hand-over"]


def test_going_back_to_a_caller_is_a_stay() -> None:
    way = [Step("", "a:f", "typed"), Step("a:f", "b:g"), Step("a:f", "c:h"), Step("c:h", "d:i")]
    assert list(stays(way)) == ["a", "b", "a", "c", "d"]
    assert (length(way).files, length(way).stays, length(way).returns) == (4, 5, 1)


def test_the_documented_length_is_the_length() -> None:
    it = length(WAY)
    assert f"**{it.files} files, {it.stays} stays, {it.returns} returns**" in HOUSE


def test_the_way_is_shorter_than_before_the_rooms() -> None:
    it = length(WAY)
    assert it.files < 49
    assert it.stays < 88


def test_the_files_of_the_documented_way_are_there() -> None:
    rows = [line for line in HOUSE.splitlines() if line.startswith("| ") and ". " in line[:6]]
    named = [word for row in rows for word in row.split("`") if word.endswith(".py")]
    assert named
    assert [name for name in named if not Path(ROOT / name).exists()] == []
