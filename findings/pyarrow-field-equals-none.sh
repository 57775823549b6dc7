#!/usr/bin/env bash
# Comparing a pyarrow Field with None.
#
# pyarrow 26.0.1: `pa.field("a", pa.int64()) == None` raises AttributeError: 'NoneType' object has
# no attribute 'field'. A DataType and a Schema answer False, as Python's objects do. So
# `field in [None, other]`, or a dataclass with an optional field that is compared, raises.
#
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 2>/dev/null
cat > try.py <<'PYTHON'
import pyarrow as pa

field = pa.field("a", pa.int64())
for name, thing in (("type", field.type), ("schema", pa.schema([field])), ("field", field)):
    try:
        print(name, thing == None)  # noqa: E711
    except AttributeError as error:
        print(name, f"AttributeError: {error}")
PYTHON
env/bin/python try.py | tee out
printf '%s\n' 'type False' 'schema False' "field AttributeError: 'NoneType' object has no attribute 'field'" \
    | diff - out
echo 'as described'
