"""Labelled entities as spans of the text: from tags of tokens, or from label, start and end.

Pure: Arrow columns in, texts and spans out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from headrace.formats.text_column import as_bytes, is_texts, plain
from producers.quality.gold import texts_of
from producers.training.labels import Labels, check_names_differ, doubts
from schemas.entity_tags import OUTSIDE, Span, overlaps, spans_of_tags, tags_of_labels
from schemas.errors import ColumnError, ConfigError

SPANS = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))
"""Of the labelled rows that are stored: characters of the text, the end past the last one."""
SIDES = "BIESLU"


def joined(tokens: Any, name: str) -> pa.Array:
    """Lists of tokens as texts, joined by single spaces; null where the list is.

    Raises:
        ColumnError: the column has no lists of texts, or a list has a null in it.
    """
    column = _whole(tokens)
    if not is_texts(column.type):
        raise ColumnError(f"column {name!r} is {column.type}: --tokens-column has lists of texts")
    rows = column.to_pylist()
    for row, words in enumerate(rows):
        if words is not None and None in words:
            raise ColumnError(f"column {name!r}: row {row} has a token that is null")
    return pa.array([None if words is None else " ".join(words) for words in rows], pa.string())


def readable(column: Any) -> pa.Array:
    """A text column of any type as strings; null where a text is not UTF-8."""
    found: list[str | None] = []
    for value in as_bytes(column):
        try:
            found.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            found.append(None)
    return pa.array(found, pa.string())


def understand_entities(
    texts: pa.Array, column: Any, name: str, tokens: Any | None, renamed: Mapping[str, str]
) -> Labels:
    """The entities of each row as spans, and the tags by which a model will say them.

    `tokens` are those that the column's tags belong to; None: the column has spans of `texts`.

    Raises:
        ColumnError: no entity at all, tags that are no tags or not as many as tokens, spans that
            lie outside of the text or overlap, labels that differ in case or spaces alone.
        ConfigError: tags without a column of tokens.
    """
    column = _whole(column)
    if tokens is None:
        rows = _of_spans(column, name, renamed)
    else:
        rows = _of_tags(column, name, _whole(tokens).to_pylist(), renamed)
    values = texts.to_pylist()
    for row, spans in enumerate(rows):
        if spans is not None and values[row] is not None:
            _check_spans(spans, values[row], name, row)
    counts = Counter(label for spans in rows for label, _, _ in spans or ())
    if not counts:
        raise ColumnError(f"column {name!r} holds no entity: there is nothing to find")
    labels = tuple(sorted(counts))
    check_names_differ(labels, counts, name)
    array = pa.array(
        [None if spans is None else [dict(zip(SPAN_FIELDS, s, strict=True)) for s in spans] for spans in rows],
        SPANS,
    )  # fmt: skip
    warnings = (*_odd_beginnings(column, tokens), *doubts(labels, counts, name, entities=True))
    return Labels("entities", tags_of_labels(labels), array, dict(counts), warnings)


SPAN_FIELDS = ("label", "start", "end")


def _whole(column: Any) -> Any:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return plain(column)


def _of_spans(column: Any, name: str, renamed: Mapping[str, str]) -> list[list[Span] | None]:
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if is_list and (is_texts(kind) or pa.types.is_integer(kind.value_type)):
        raise ConfigError(f"column {name!r} has tags: name the tokens with --tokens-column")
    fields = (
        {f.name for f in kind.value_type}
        if is_list and pa.types.is_struct(kind.value_type)
        else set()
    )
    if not set(SPAN_FIELDS) <= fields:
        raise ColumnError(
            f"column {name!r} is {kind}: entities are lists of label, start and end, or tags with "
            "--tokens-column"
        )  # fmt: skip
    rows: list[list[Span] | None] = []
    for row, items in enumerate(column.to_pylist()):
        spans = None if items is None else [tuple(item[f] for f in SPAN_FIELDS) for item in items]
        if spans is not None and any(None in span for span in spans):
            raise ColumnError(
                f"column {name!r}: row {row} has an entity without label, start or end"
            )
        rows.append(
            None if spans is None else [(renamed.get(str(n), str(n)), int(a), int(b)) for n, a, b in spans]
        )  # fmt: skip
    return rows


def _of_tags(
    column: Any, name: str, tokens: Sequence[Any], renamed: Mapping[str, str]
) -> list[list[Span] | None]:
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise ColumnError(f"column {name!r} is {column.type}: tags are a list in each row")
    known = _tags_by_value(column, name, renamed)
    rows: list[list[Span] | None] = []
    for row, tags in enumerate(column.to_pylist()):
        if tags is None or tokens[row] is None:
            rows.append(None)
            continue
        try:
            spans = spans_of_tags(tokens[row], [known[str(tag)] for tag in tags])
        except ValueError as error:
            raise ColumnError(f"column {name!r}: row {row} has {error}") from error
        rows.append([(renamed.get(label, label), a, b) for label, a, b in spans])
    return rows


def _tags_by_value(column: Any, name: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """Each different value of the column as a tag.

    Raises:
        ColumnError: one that is no tag.
    """
    flat = column.flatten()
    if flat.null_count:
        raise ColumnError(f"column {name!r} has a tag that is null")
    values = [v for v in dict.fromkeys(texts_of(flat)) if v is not None]
    known = {value: renamed.get(value, value) for value in values}
    bad = [tag for tag in known.values() if not _is_tag(tag)]
    if bad:
        numbers = ": give their names with --map 0=O,1=B-PER,2=I-PER" if bad[0].isdigit() else ""
        raise ColumnError(
            f"column {name!r} has the tag {bad[0]!r}, which is neither O nor a label after B- or "
            f"I-{numbers}"
        )
    return known


def _is_tag(tag: str) -> bool:
    return tag == OUTSIDE or (tag[:1] in SIDES and tag[1:2] == "-" and bool(tag[2:].strip()))


def _check_spans(spans: Sequence[Span], text: str, name: str, row: int) -> None:
    for label, start, end in spans:
        if not 0 <= start < end <= len(text):
            raise ColumnError(
                f"column {name!r}: row {row} has {label!r} from {start} to {end}, and its text has "
                f"{len(text)} characters"
            )
    for one, other in overlaps(spans):
        raise ColumnError(
            f"column {name!r}: row {row} has entities that overlap, {one[0]!r} from {one[1]} to "
            f"{one[2]} and {other[0]!r} from {other[1]}: a token has one label only"
        )


def _odd_beginnings(column: Any, tokens: Any | None) -> Iterator[str]:
    """A warning where entities begin with `I-`: another scheme, or a fault."""
    if tokens is None or not is_texts(column.type):
        return
    odd = 0
    for tags in column.to_pylist():
        for before, tag in zip([OUTSIDE, *(tags or [])], tags or [], strict=False):
            odd += tag[:2] == "I-" and before[2:] != tag[2:]
    if odd:
        yield f"{odd:,} entities begin with I- and not with B-: they are taken to begin there"
