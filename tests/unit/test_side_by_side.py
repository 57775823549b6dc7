"""How tests are given to processes: what shares something costly stays together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.side_by_side import LONGEST, TOGETHER, group_of, place_of

ROOT = Path(__file__).parents[2]
pytest_plugins = ("pytester",)


@pytest.mark.parametrize("place", dict.fromkeys([*TOGETHER, *LONGEST]))
def test_each_listed_place_has_tests(place: str) -> None:
    file, _, test = place.partition("::")
    path = ROOT / file
    assert path.is_file() or any(path.glob("test_*.py"))
    assert not test or f"\ndef {test}" in path.read_text()


def test_the_longest_are_no_part_of_a_group() -> None:
    """A group has one place: it is given out as a whole."""
    assert [p for p in LONGEST for group in TOGETHER if p.startswith(group) and p != group] == []


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/acceptance/training/test_train.py::test_x[seed1]", "tests/acceptance/training/"),
        ("tests/unit/test_a.py::test_y", "tests/unit/test_a.py"),
        ("tests/integration/test_a.py::test_y", "tests/integration/test_a.py::test_y"),
    ],
)
def test_the_group_of_a_test(test: str, group: str) -> None:
    assert group_of(test) == group


def test_the_longest_come_first() -> None:
    tests = ["tests/unit/test_a.py::test_y", f"{LONGEST[1]}::test_z", f"{LONGEST[0]}test_b.py::x"]
    assert sorted(tests, key=place_of) == tests[::-1]


def test_a_group_is_set_up_once_and_the_others_are_spread(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests import side_by_side\n"
        "side_by_side.TOGETHER = ('test_shared.py',)\n"
        "def pytest_xdist_make_scheduler(config, log):\n"
        "    return side_by_side.InGroups(config, log)\n"
    )
    body = (
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "def test_where(n, worker_id):\n"
        "    print('ran', __name__, 'in', worker_id)\n"
    )
    pytester.makepyfile(test_shared=body, test_other=body)
    done = pytester.runpytest_subprocess("-n", "2", "-rP", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=12)
    ran = [line.split() for line in done.outlines if line.startswith("ran ")]
    assert len({where for _, name, _, where in ran if name == "test_shared"}) == 1
    assert len({where for _, _, _, where in ran}) == 2
