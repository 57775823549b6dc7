"""How tests are given to processes: what shares something costly stays together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.side_by_side import TOGETHER, group_of

ROOT = Path(__file__).parents[2]
pytest_plugins = ("pytester",)


def test_each_listed_place_has_tests() -> None:
    for place in TOGETHER:
        path = ROOT / place
        assert path.is_file() or any(path.glob("test_*.py")), place


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
