#!/usr/bin/env bash
# Groups of pytest-xdist under pytest 9.2.
#
# pytest-xdist 3.8.0 keeps the tests of an `xdist_group` in one process by writing the group's name
# into a private attribute of each item, from which pytest made the id. pytest 9.2.0 no longer reads
# it: with `--dist loadgroup` the tests of a group are spread over all processes, a fixture that they
# share is set up in each, and nothing is said. With pytest 8.4.2 they stay together.
#
# Prints, for both versions, in how many of two processes a group of eight tests ran. Fails when that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > test_group.py <<'PYTHON'
import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(8))
def test_where(number, worker_id):
    print("ran in", worker_id)
PYTHON
for version in 8.4.2 9.2.0; do
    python3 -m venv "env-$version"
    "env-$version/bin/pip" install --quiet --disable-pip-version-check \
        "pytest==$version" pytest-xdist==3.8.0 2>/dev/null
    "env-$version/bin/python" -m pytest -n 2 --dist loadgroup -rP test_group.py > "log-$version"
    echo "pytest $version: a group of 8 ran in $(grep '^ran in' "log-$version" | sort -u | wc -l) of 2 processes"
done | tee out
grep -qx 'pytest 8.4.2: a group of 8 ran in 1 of 2 processes' out
grep -qx 'pytest 9.2.0: a group of 8 ran in 2 of 2 processes' out
echo 'as described'
