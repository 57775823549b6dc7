"""Which columns of the input a job uses, and whether they can be used. Names and types only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.formats.base import Scan
from headrace.formats.json_types import settled
from headrace.formats.template import columns_of
from headrace.formats.text_column import MARK, field_at, is_texts
from headrace.formats.unify import unify
from headrace.tasks.catalog import task_spec
from schemas.errors import ColumnError, SchemaMismatch
from schemas.records.job import Column
from schemas.records.text_source import template_in

MAX_TYPE_TEXT = 4_096  # required: the longest that a job's record allows
ROW_NUMBER = "id"
"""The default id column: the row's number within its file, int64."""


@dataclass(frozen=True, slots=True)
class ColumnRequest:
    """The columns that a job was asked to use."""

    task: str
    text: str
    """A column, or the name of a template, see `schemas.records.text_source`."""
    pair: str | None = None
    """The same, for the second text."""
    pair_options: Mapping[str, str] = field(default_factory=dict)
    """Its columns → the option that names each, where it has a name of its own."""
    id: str | None = None
    carried: tuple[str, ...] = ()
    pair_is_list: bool = False
    """The second text may be a list of texts."""
    text_is_list: bool = False
    """The text is a list of texts."""
    more_answers: tuple[str, ...] = ()
    """Columns that the task writes beside its usual ones."""

    @property
    def in_files(self) -> tuple[str, ...]:
        """All names once, in order; some of the carried ones may come from the path instead."""
        names = [*self.texts, self.id, *self.carried]
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are read as text, each once."""
        pair = columns_of(self.pair) if self.pair else ()
        return tuple(dict.fromkeys([*columns_of(self.text), *pair]))


@dataclass(frozen=True, slots=True)
class ColumnTypes:
    """The columns as they are in the input, with Arrow types as text."""

    text: str
    id: str
    carried: tuple[Column, ...]
    planned: Any = None
    """`pyarrow.Schema` of the columns read, if the files do not have types or differ."""


def check_names(wanted: ColumnRequest) -> None:
    """Check that the names can be the columns of one output.

    Raises:
        ColumnError: a name occurs twice, or is one that headrace writes itself.
    """
    from schemas.records.part_schema import RESERVED

    answers = (*task_spec(wanted.task).columns, *wanted.more_answers)
    ours = {name.casefold(): name for name in (*RESERVED, *answers)}
    id_name = wanted.id or ROW_NUMBER
    if id_name.casefold() in {name.casefold() for name in wanted.more_answers}:
        raise ColumnError(
            f"the schema's property {id_name!r} has the name of the id column; rename one of them"
        )
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


class TypesOfFiles:
    """The types of the wanted columns over all files added so far."""

    def __init__(self, wanted: ColumnRequest) -> None:
        self._wanted = wanted
        self._first: tuple[str, dict[str, str | None]] | None = None
        self._fields: dict[str, Any] = {}
        self._is_loose = True
        self._any_loose = self._differs = self._needs_types = False
        self._seen: tuple[Any, dict[str, str | None]] | None = None

    def add(self, scan: Scan, partitions: dict[str, str | None], where: str) -> None:
        """Add a file's columns.

        Raises:
            ColumnError: one is missing, occurs twice, or has a type that cannot be used; the
                message lists the columns of the file.
            SchemaMismatch: the file disagrees with those before it; names both.
        """
        self._check_is_there(scan, partitions, where)
        check_columns(scan, partitions, self._wanted, where)
        found = {name: self._field(scan.schema, name) for name in self._wanted.in_files}
        if self._first is None:
            self._first, self._fields = (where, partitions), found
        else:
            before = self._fields
            is_loose = self._is_loose and scan.is_loose
            self._fields = {
                name: self._both(name, other, partitions, where, is_loose)
                for name, other in found.items()
            }
            self._differs |= any(
                self._is_new_type(name, old) or self._is_new_type(name, found[name])
                for name, old in before.items()
            )
        self._is_loose &= scan.is_loose
        self._any_loose |= scan.is_loose
        self._needs_types |= scan.needs_types
        self._seen = self._seen or (scan.schema, partitions)

    def result(self) -> ColumnTypes | None:
        """The types; None when there was no file.

        Raises:
            ColumnError: no file has the text column, or no row has an id.
        """
        if self._first is None or self._seen is None:
            return None
        wanted, where = self._wanted, self._first[0]
        for name in (*wanted.texts, wanted.id):
            if name and _is_null(self._fields[name]):
                if self._fields[name] is not None and not self._any_loose:
                    raise ColumnError(f"column {name!r} is null in every row of every file")
                raise ColumnError(_missing(name, *self._seen, wanted, where))
        if self._any_loose:
            self._fields = {n: _settled(f) for n, f in self._fields.items()}
        fields = self._fields
        return ColumnTypes(
            text=_text_type([fields[name] for name in columns_of(wanted.text)]),
            id=type_text(fields[wanted.id]) if wanted.id else "int64",
            carried=tuple(Column(name=n, type=type_text(fields[n])) for n in wanted.carried),
            planned=self._planned() if self._needs_types or self._differs else None,
        )

    def _planned(self) -> Any:
        """`pyarrow.Schema` of what is read, texts marked where they are no type of their own."""
        import pyarrow as pa

        texts = self._wanted.texts
        planned = []
        for name, known in self._fields.items():
            if known is None or (self._only_read(name) and not self._any_loose):
                continue
            if name in texts and self._any_loose and not is_texts(known.type):
                planned.append(pa.field(name, pa.string(), metadata=MARK))
            else:
                planned.append(pa.field(name, known.type))
        return pa.schema(planned)

    def _check_is_there(self, scan: Scan, partitions: dict[str, str | None], where: str) -> None:
        """Check that the file has every column that earlier files have."""
        if self._first is None or scan.is_loose:
            return
        first, first_partitions = self._first
        for name, before in self._fields.items():
            is_there = name in partitions or self._field(scan.schema, name) is not None
            if before is not None and name not in first_partitions and not is_there:
                raise SchemaMismatch(
                    f"input files differ: column {name!r} is {_type_text(before, False)} in {first} "
                    f"and missing in {where}; submit them as two jobs, or write them with one schema"
                )

    def _is_new_type(self, name: str, field: Any | None) -> bool:
        """Whether a file's column is not of the type that all files have now."""
        now = self._fields[name]
        if now is None or field is None or self._only_read(name):
            return False
        return bool(field.type != now.type)

    def _field(self, schema: Any, name: str) -> Any | None:
        """The column's field; None where it comes from the path, or is not there."""
        if name in self._wanted.texts:
            return field_at(schema, name)
        at = schema.get_field_index(name)
        return schema.field(at) if at >= 0 else None

    def _only_read(self, name: str) -> bool:
        return name in self._wanted.texts and name not in self._wanted.carried

    def _both(
        self, name: str, other: Any, partitions: dict[str, str | None], where: str, is_loose: bool
    ) -> Any | None:
        first, first_partitions = self._first or ("", {})
        mine = self._fields[name]
        if mine is None or other is None:
            if (mine is None) == (other is None):
                return mine
            # JSON Lines may leave out a column; a Parquet file names all of them
            if (name in partitions) == (name in first_partitions):
                return other if mine is None else mine
        elif self._only_read(name) and all(is_text(f.type) for f in (mine, other)):
            return other if _is_null(mine) else mine
        else:
            both = unify(mine, other, is_loose)
            if both is not None:
                return both
        a = _type_text(mine, name in first_partitions)
        b = _type_text(other, name in partitions)
        raise SchemaMismatch(
            f"input files differ: column {name!r} is {a} in {first} and {b} in {where}; "
            "submit them as two jobs, or write them with one schema"
        )


def types_of_nothing(wanted: ColumnRequest, schema: Any = None) -> ColumnTypes:
    """The types of a corpus without rows: those of an empty file's `schema`, else strings."""

    def named(name: str) -> str:
        at = -1 if schema is None else schema.get_field_index(name)
        return type_text(schema.field(at) if at >= 0 else None)

    return ColumnTypes(
        text=named(columns_of(wanted.text)[0]),
        id=named(wanted.id) if wanted.id else "int64",
        carried=tuple(Column(name=name, type=named(name)) for name in wanted.carried),
    )


def check_columns(
    scan: Scan, partitions: dict[str, str | None], wanted: ColumnRequest, where: str
) -> None:
    """Check that the file has the wanted columns with usable types.

    Raises:
        ColumnError: one is missing, occurs twice, or has a type that cannot be used.
    """
    schema = scan.schema
    for name in wanted.in_files:
        count = len(schema.get_all_field_indices(name))
        if count > 1:
            raise ColumnError(f"{where} has {count} columns named {name!r}")
        is_there = count or (name in wanted.texts and field_at(schema, name) is not None)
        from_path = name in wanted.carried and name in partitions
        if not is_there and not from_path and not scan.is_loose:
            raise ColumnError(_missing(name, schema, partitions, wanted, where))
    for text in wanted.texts:
        field = field_at(schema, text)
        may_be_list = wanted.text_is_list or (text == wanted.pair and wanted.pair_is_list)
        if (
            field is not None
            and (wanted.text_is_list or not is_text(field.type))
            and not (may_be_list and is_texts(field.type))
            and not _is_null(field)
        ):
            raise ColumnError(
                f"{where}: column {text!r} is {field.type}, not text; "
                f"columns: {_listed(schema, partitions)}"
            )
    at = schema.get_field_index(wanted.id) if wanted.id else -1
    if at >= 0 and _is_nested(schema.field(at).type):
        raise ColumnError(f"{where}: id column {wanted.id!r} is {schema.field(at).type}")


def is_text(arrow_type: Any) -> bool:
    """A string, binary or JSON type, or a dictionary of one of them."""
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if isinstance(arrow_type, pa.JsonType):
        return True
    return arrow_type in (
        pa.string(), pa.large_string(), pa.string_view(),
        pa.binary(), pa.large_binary(), pa.binary_view(),
    )  # fmt: skip


def _text_type(fields: Sequence[Any]) -> str:
    """The type of a column with the text; of several, whether one of them is bytes."""
    if len(fields) == 1:
        return type_text(fields[0])
    return next((t for t in map(type_text, fields) if "binary" in t), "string")


def type_text(field: Any | None) -> str:
    """The Arrow type as text; a very long one is cut, and ends with a digest of the whole."""
    text = "string" if field is None else str(field.type)
    if len(text) <= MAX_TYPE_TEXT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: MAX_TYPE_TEXT - 40]}… sha256:{digest}"


def _settled(field: Any | None) -> Any | None:
    if field is None:
        return None
    return field.with_type(settled(field.type))


def _is_null(field: Any | None) -> bool:
    import pyarrow as pa

    return field is None or bool(pa.types.is_null(field.type))


def _is_nested(arrow_type: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(arrow_type))


def _type_text(field: Any | None, is_partition: bool) -> str:
    if is_partition:
        return "a partition"
    return "missing" if field is None else str(field.type)


def _missing(
    name: str, schema: Any, partitions: Mapping[str, Any], wanted: ColumnRequest, where: str
) -> str:
    text_flag = "--text-column" if template_in(wanted.text) is None else "--text"
    flags: dict[str | None, str] = {
        wanted.pair: "--text-pair-column",
        wanted.id: "--id-column",
        **{column: f"--{option}" for column, option in wanted.pair_options.items()},
    }
    flags |= dict.fromkeys(columns_of(wanted.text), text_flag)
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
