"""The Arrow schemas of what headrace writes."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

PLAN = pa.schema(
    [
        pa.field("chunk", pa.int32(), nullable=False),
        pa.field("file", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("partitions", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("format", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("skip", pa.int64(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("job_row", pa.int64(), nullable=False),
    ]
)
"""`_headrace/plan.chunks`; `partitions` is the JSON of an object."""

PLAN_OF_ROW_GROUPS = pa.schema(
    [
        *(f for f in PLAN if f.name in ("chunk", "file", "size", "etag", "partitions")),
        pa.field("row_group_start", pa.int32(), nullable=False),
        pa.field("row_group_stop", pa.int32(), nullable=False),
        *(f for f in PLAN if f.name in ("first_row", "rows", "bytes", "job_row")),
    ]
)
"""The plan of earlier versions, for Parquet only; still read."""

META_CONTENTS = "headrace.input_contents"
"""Key of a plan's file metadata: a JSON object of URIs and the sha256 of each file's bytes, of small
corpora on a disk."""

META_TYPES = "headrace.input_types"
"""Key of a plan's file metadata: the types of the columns read, where the files do not say them.
Base64 of an Arrow IPC schema."""

STATUS = pa.dictionary(pa.int8(), pa.string())
OK, ERROR = "ok", "error"

TAIL = [
    pa.field("n_tokens", pa.int32()),
    pa.field("truncated", pa.bool_()),
    pa.field("status", STATUS, nullable=False),
    pa.field("error_type", pa.dictionary(pa.int32(), pa.string())),
    pa.field("error_message", pa.string()),
    pa.field("trace_id", pa.string()),
    pa.field("text_hash", pa.binary(16)),
]
"""The columns that end every part: `text_hash` is the first 16 bytes of the text's BLAKE2b."""

RESERVED = frozenset(f.name for f in TAIL)
"""Names that no carried column may have, whatever the task."""


def part_schema(carried: Iterable[pa.Field], task: Iterable[pa.Field]) -> pa.Schema:
    """The schema of a part: id and carried columns, the task's columns, the tail."""
    return pa.schema([*carried, *task, *TAIL])


# Keys of a part's file metadata.
META_JOB = "headrace.job"
META_CHUNK = "headrace.chunk"
META_ATTEMPT = "headrace.attempt"
META_TRACE = "headrace.trace_id"
META_FILE = "headrace.input_file"
META_FIRST_ROW = "headrace.first_row"
META_SOURCES = "headrace.input_files"
"""Where the rows of several files are in one part: JSON, a list of file, its first row here, and rows.
META_FILE and META_FIRST_ROW are then those of the first."""
META_ROWS = "headrace.rows"
META_OK = "headrace.ok"
META_MODEL = "headrace.model"
META_REVISION = "headrace.model_revision"
META_TASK = "headrace.task"
META_DTYPE = "headrace.dtype"
META_ENGINE = "headrace.engine"
"""Name of what ran the model; of one that generates also its package and version."""
META_VERSIONS = "headrace.versions"
META_ERRORS = "headrace.errors"
META_STATS = "headrace.stats"
META_TEXTS = "headrace.texts"
"""A profile of the chunk's texts, since the part does not contain them."""
