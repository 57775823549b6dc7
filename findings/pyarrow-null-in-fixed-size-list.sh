#!/usr/bin/env bash
# A Parquet column of fixed_size_list<float>[2] with one null row.
#
# pyarrow 26.0.1 writes it and reads it back. pyarrow 25.0.0 writes the same table and cannot read
# its own file, nor that of 26: "Expected all lists to be of size=2 but index 2 had size=0".
# pyarrow 22.0.0 cannot read the file of 26 either, and refuses to write one.
# An embedding with one failed row is such a column: list<float> is the type that all of them read.
#
# Fails when one of these versions behaves in another way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > try.py <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.parquet as pq

kind = pa.list_(pa.float32(), 2)
table = pa.table({"vector": pa.array([[1.0, 2.0], None, [3.0, 4.0]], type=kind)})


def outcome(step):
    try:
        return step()
    except pa.ArrowException as error:
        return f"{type(error).__name__}: {error}"


own = f"{pa.__version__}.parquet"
print("write", outcome(lambda: pq.write_table(table, own) or "ok"))
for name in (own, "26.0.1.parquet"):
    print("read", name, outcome(lambda: pq.read_table(name)["vector"].to_pylist())
          if name in sys.argv[1:] or name == own else "-")
PYTHON
for version in 26.0.1 25.0.0 22.0.0; do
    python3 -m venv "env-$version"
    "env-$version/bin/pip" install --quiet --disable-pip-version-check "pyarrow==$version" 2>/dev/null
    echo "pyarrow $version"
    "env-$version/bin/python" try.py 26.0.1.parquet 2>&1 | grep -v FileNotFound | tee "out-$version" || true
done
size='ArrowInvalid: Expected all lists to be of size=2 but index 2 had size=0'
grep -qF 'read 26.0.1.parquet [[1.0, 2.0], None, [3.0, 4.0]]' out-26.0.1
grep -qF 'write ok' out-25.0.0
grep -qF "read 25.0.0.parquet $size" out-25.0.0
grep -qF "read 26.0.1.parquet $size" out-25.0.0
grep -qF 'write ArrowNotImplementedError' out-22.0.0
echo 'as described'
