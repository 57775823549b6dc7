"""Texts made of columns: `{title}\\n{body}`, one for each row, as any format's reader gives them.

`{name}` is a column, or a path such as `doc.title`. `{{` and `}}` are braces; `\\n`, `\\t` and `\\\\`
are a line break, a tab and a backslash, as a shell passes them on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.formats.base import FAULT
from headrace.formats.text_column import plain, plain_column
from schemas.errors import ConfigError
from schemas.records.text_source import template_in

_TOKEN = re.compile(
    r"\{\{|\}\}|\{(?P<name>[^{}]+)\}|\\[nt\\]|(?P<brace>[{}])|[^{}\\]+|\\", re.DOTALL
)
_LITERALS = {"{{": "{", "}}": "}", r"\n": "\n", r"\t": "\t", r"\\": "\\"}
_WRITTEN = {"{": "{{", "}": "}}", "\n": r"\n", "\t": r"\t", "\\": r"\\"}


@dataclass(frozen=True, slots=True)
class Template:
    """Alternating pieces: `literals[0]`, `columns[0]`, `literals[1]`, … `literals[-1]`."""

    literals: tuple[str, ...]
    columns: tuple[str, ...]

    def __str__(self) -> str:
        """The canonical form, on one line, as it is stored in a job."""
        first, *rest = ("".join(_WRITTEN.get(c, c) for c in text) for text in self.literals)
        named = (f"{{{name}}}{text}" for name, text in zip(self.columns, rest, strict=True))
        return first + "".join(named)

    def render(self, columns: dict[str, Any]) -> Any:
        """One text a row, as `large_binary`. A null is empty; if all are null, so is the text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values = [_binary(columns[name]) for name in self.columns]
        kind = pa.large_binary()
        pieces: list[Any] = [pa.scalar(self.literals[0].encode(), kind)]
        for value, text in zip(values, self.literals[1:], strict=True):
            pieces += [pc.fill_null(value, b""), pa.scalar(text.encode(), kind)]
        joined = pc.binary_join_element_wise(*pieces, pa.scalar(b"", kind))
        return pc.if_else(_any_valid(values), joined, pa.scalar(None, kind))


def parse_template(text: str) -> Template:
    """The template that the text describes.

    Raises:
        ConfigError: an unmatched brace, or no column.
    """
    literals, columns = [""], []
    for token in _TOKEN.finditer(text):
        if token["brace"]:
            raise ConfigError(
                f"--text {text!r}: a {token['brace']} alone has no meaning; write a column as {{name}}, and a "
                f"brace as {token['brace'] * 2}"
            )
        if token["name"] is not None:
            columns.append(token["name"])
            literals.append("")
        else:
            literals[-1] += _LITERALS.get(token[0], token[0])
    if not columns:
        raise ConfigError(
            f"--text {text!r} names no column: write '{{title}}\\n{{body}}', or use --text-column"
        )
    return Template(tuple(literals), tuple(columns))


def columns_of(name: str) -> tuple[str, ...]:
    """The columns that a text is read from: one column, or those of its template."""
    template = template_in(name)
    return (name,) if template is None else parse_template(template).columns


def with_texts(batch: Any, names: Sequence[str], templates: dict[str, Template]) -> Any:
    """The batch with these text columns added; a row with a fault has no text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    by_name = dict(zip(batch.schema.names, batch.columns, strict=True))
    faults = by_name.get(FAULT)
    found = {}
    for name in names:
        template = templates.get(name)
        if template is None:
            found[name] = by_name[name]
            continue
        texts = template.render({c: plain_column(batch, c) for c in template.columns})
        if faults is not None:
            texts = pc.if_else(pc.equal(faults, 0), texts, pa.scalar(None, texts.type))
        found[name] = texts
    if faults is not None:
        found[FAULT] = faults
    return pa.RecordBatch.from_arrays(list(found.values()), names=list(found))


def _binary(column: Any) -> Any:
    """Text of any Arrow type as `large_binary`, valid UTF-8 or not."""
    import pyarrow as pa

    column = plain(column)
    if column.type == pa.string_view():
        column = column.cast(pa.binary_view())
    return column.cast(pa.large_binary())


def _any_valid(values: Sequence[Any]) -> Any:
    import pyarrow.compute as pc

    first, *rest = (pc.is_valid(value) for value in values)
    for other in rest:
        first = pc.or_(first, other)
    return first
