"""Which columns of the input a job uses, and whether they are fit for it. Names and types only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headrace.tasks.catalog import task_spec
from schemas.errors import ColumnError, SchemaMismatch
from schemas.records.job import Column

ROW_NUMBER = "id"
"""The id column where nobody names one: the row's number within its file, int64."""


@dataclass(frozen=True, slots=True)
class ColumnRequest:
    """The columns that a job was asked to use."""

    task: str
    text: str
    pair: str | None = None
    id: str | None = None
    carried: tuple[str, ...] = ()

    @property
    def in_files(self) -> tuple[str, ...]:
        """All names once, in order; some of the carried ones may come from the path instead."""
        names = [self.text, self.pair, self.id, *self.carried]
        return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True, slots=True)
class ColumnTypes:
    """The columns as they stand in the input: Arrow types as text."""

    text: str
    id: str
    carried: tuple[Column, ...]


def check_names(wanted: ColumnRequest) -> None:
    """Nothing, when the names can stand side by side in an output.

    Raises:
        ColumnError: a name stands twice, or is one that headrace writes itself.
    """
    from schemas.records.part_schema import RESERVED

    ours = {name.casefold(): name for name in (*RESERVED, *task_spec(wanted.task).columns)}
    id_name = wanted.id or ROW_NUMBER
    if id_name.casefold() in ours:
        raise ColumnError(
            f"the id column {id_name!r} has the name of a column that headrace writes; rename "
            "it in the input, or leave --id-column out"
        )
    twice = [n for n, count in Counter(c.casefold() for c in wanted.carried).items() if count > 1]
    if twice:
        raise ColumnError(f"--columns names {twice[0]!r} twice")
    for name in wanted.carried:
        if name.casefold() == id_name.casefold():
            why = "is the id column already" if wanted.id else (
                "has the name that the row number has; make it the id column with --id-column"
            )  # fmt: skip
            raise ColumnError(f"--columns: {name!r} {why}")
        if name.casefold() in ours:
            raise ColumnError(
                f"--columns: {name!r} has the name of a column that {wanted.task} writes "
                f"({', '.join(sorted(ours.values()))}); rename it in the input"
            )


def check_columns(
    schema: Any, partitions: dict[str, str], wanted: ColumnRequest, where: str
) -> ColumnTypes:
    """The types of the wanted columns in a file.

    Raises:
        ColumnError: one is missing, stands twice, or has a type that does not serve; the message
            lists the columns that there are.
    """
    for name in wanted.in_files:
        count = len(schema.get_all_field_indices(name))
        if count > 1:
            raise ColumnError(f"{where} has {count} columns named {name!r}")
        if not count and not (name in wanted.carried and name in partitions):
            raise ColumnError(_missing(name, schema, partitions, wanted, where))
    for text in (wanted.text, wanted.pair):
        if text and not is_text(schema.field(text).type):
            raise ColumnError(
                f"{where}: column {text!r} is {schema.field(text).type}, not text; "
                f"columns: {_listed(schema, partitions)}"
            )
    if wanted.id and _nested(schema.field(wanted.id).type):
        raise ColumnError(f"{where}: id column {wanted.id!r} is {schema.field(wanted.id).type}")
    return ColumnTypes(
        text=str(schema.field(wanted.text).type),
        id=str(schema.field(wanted.id).type) if wanted.id else "int64",
        carried=tuple(Column(name=n, type=_type_text(schema, n, "string")) for n in wanted.carried),
    )


def check_same(first: Any, first_where: str, other: Any, where: str, wanted: ColumnRequest) -> None:
    """Nothing, when both files have the wanted columns with the same types.

    Two kinds of text column agree, since only the text is read of them. `first` and `other` are
    `(schema, partitions)`.

    Raises:
        SchemaMismatch: with both files and the first difference.
    """
    for name in wanted.in_files:
        a, b = (
            _type_text(schema, name, _partition(parts, name)) for schema, parts in (first, other)
        )
        if a == b:
            continue
        only_read = name in (wanted.text, wanted.pair) and name not in wanted.carried
        if only_read and all(_is_text_field(schema, name) for schema, _ in (first, other)):
            continue
        raise SchemaMismatch(
            f"input files differ: column {name!r} is {a} in {first_where} and {b} in {where}; "
            "submit them as two jobs, or write them with one schema"
        )


def is_text(arrow_type: Any) -> bool:
    """string, large_string, string_view, or a dictionary of one of them."""
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return arrow_type in (pa.string(), pa.large_string(), pa.string_view())


def _is_text_field(schema: Any, name: str) -> bool:
    at = schema.get_field_index(name)
    return at >= 0 and is_text(schema.field(at).type)


def _nested(arrow_type: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(arrow_type) or pa.types.is_null(arrow_type))


def _type_text(schema: Any, name: str, absent: str) -> str:
    at = schema.get_field_index(name)
    return str(schema.field(at).type) if at >= 0 else absent


def _partition(partitions: dict[str, str], name: str) -> str:
    return "a partition" if name in partitions else "missing"


def _missing(
    name: str, schema: Any, partitions: dict[str, str], wanted: ColumnRequest, where: str
) -> str:
    flags = {
        wanted.text: "--text-column",
        wanted.pair: "--text-pair-column",
        wanted.id: "--id-column",
    }
    flag = flags.get(name, "--columns")
    reason = f"{where} has no column {name!r} ({flag})"
    if name in partitions:
        reason = f"{name!r} is a partition of {where}, and {flag} needs a column of the file"
    return f"{reason}; columns: {_listed(schema, partitions)}"


def _listed(schema: Any, partitions: Iterable[str]) -> str:
    columns = [f"{field.name} ({field.type})" for field in schema]
    columns += [f"{name} (partition)" for name in partitions]
    shown = columns[:50]
    more = f" and {len(columns) - len(shown)} more" if len(columns) > len(shown) else ""
    return ", ".join(shown) + more
