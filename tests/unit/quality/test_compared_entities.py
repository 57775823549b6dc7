"""Two outputs of entities: what changed by span, which finds more, and what the gate says."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import f1_score

from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from producers.commands.quality.compare import compare_outputs
from producers.commands.session import session_with
from producers.quality.gold_entities import EntityGold
from producers.quality.paired import Gate
from producers.quality.pairs.compared_entities import ComparedEntities, compare_entities
from producers.quality.pairs.entity_changes import (
    Change,
    EntityAgreement,
    PairedEntities,
    changes_of,
    f1s_of,
    kind_of,
    refusals_of_entities,
)
from producers.terminal.compared_entities import as_json, render_compared_entities
from schemas.entity_tags import Span, spans_of_tags
from schemas.errors import ColumnError, ConfigError, ExitCode
from schemas.names import output_layout
from tests.unit.quality.test_gold import output

Spans = list[Span]
TEXT = "Anna Smith is in Paris and in Berlin"


@pytest.mark.parametrize(
    ("a", "b", "changes"),
    [
        ([("PER", 0, 4)], [("PER", 0, 4)], []),
        ([("PER", 0, 4)], [("ORG", 0, 4)], [Change("PER", "ORG")]),
        ([("PER", 0, 4)], [("PER", 0, 10)], [Change("PER", "PER", True)]),
        ([("PER", 0, 4)], [("PER", 4, 10)], [Change("PER", ""), Change("", "PER")]),
        ([("PER", 0, 4)], [], [Change("PER", "")]),
        ([], [("LOC", 17, 22)], [Change("", "LOC")]),
        # the same span goes before one that overlaps
        ([("PER", 0, 4)], [("PER", 0, 10), ("ORG", 0, 4)], [Change("PER", "ORG"), Change("", "PER")]),
    ],
)  # fmt: skip
def test_an_entity_is_the_same_relabelled_moved_lost_or_new(
    a: Spans, b: Spans, changes: list[Change]
) -> None:
    assert [change for change, _, _ in changes_of(a, b)] == changes
    back = [Change(c.after, c.before, c.is_moved) for c in changes]
    assert sorted(change for change, _, _ in changes_of(b, a)) == sorted(back)


BIO = st.lists(st.sampled_from(["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG"]), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(BIO, BIO, BIO), min_size=1, max_size=12))
def test_f1_of_both_models_and_between_them_is_seqevals(
    rows: list[tuple[list[str], list[str], list[str]]],
) -> None:
    sizes = [min(map(len, row)) for row in rows]
    tags = [[row[i][:n] for row, n in zip(rows, sizes, strict=True)] for i in range(3)]
    kinds: dict[Any, int] = {}
    for a, b, gold in zip(*tags, strict=True):
        words = ["w" * (1 + i) for i in range(len(a))]
        kind = kind_of(*(spans_of_tags(words, side) for side in (a, b, gold)))
        kinds[kind] = kinds.get(kind, 0) + 1
    paired = PairedEntities.of(kinds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = [f1_score(tags[2], tags[i], zero_division=0) for i in (0, 1)]
        between = f1_score(tags[0], tags[1], zero_division=0)
    if paired.by_label:
        assert [it.value for it in paired.f1s] == pytest.approx(wanted, abs=1e-9)
        assert paired.delta.value == pytest.approx(wanted[1] - wanted[0], abs=1e-9)
    if any(kind.found for kind in kinds):
        assert EntityAgreement(kinds).f1 == pytest.approx(between, abs=1e-9)
    else:
        assert EntityAgreement(kinds).f1 == 1.0


def test_a_gate_is_judged_by_the_worse_end() -> None:
    gold: Spans = [("PER", 0, 4)]
    right, wrong = (kind_of(gold, found, gold) for found in (gold, []))
    kinds = {right: 95, wrong: 5}
    agreement, paired = EntityAgreement(kinds), PairedEntities.of(kinds)
    assert f1s_of(paired.by_label["PER"]) == pytest.approx((1.0, 190 / 195))
    assert agreement.flips.value == 0.05
    worst = paired.delta
    assert worst.low < worst.value < worst.high <= 0

    def refused(**gate: Any) -> list[str]:
        return refusals_of_entities(Gate(**gate), agreement, paired, {"kind": {"x": paired}})

    assert refused(min_f1_delta=worst.low, max_flips=agreement.flips.high) == []
    assert refused(min_f1_delta=worst.value)[0].startswith("F1: B less A is -0.0256, and may be")
    assert refused(max_flips=0.05)[0].startswith("entities changed: in up to 11.")
    assert refused(slices={"kind": 0.0, "day": 0.0})[0].startswith("kind=x: B less A")
    assert refused(slices={"day": 0.0}) == ["day: no slice of that name was compared"]
    empty = PairedEntities.of({kind_of([], [], []): 9})
    assert refusals_of_entities(Gate(min_f1_delta=-1.0), agreement, empty, {}) == [
        "F1: no text has a gold entity"
    ]


# -- two outputs

A: list[Spans | None] = [[("PER", 0, 4), ("LOC", 17, 22)], [("LOC", 17, 22)], [], None, []]
B: list[Spans | None] = [[("PER", 0, 10), ("LOC", 17, 22)], [("ORG", 17, 22)], [], [], []]
GOLD: list[Spans | None] = [
    [("PER", 0, 10), ("LOC", 17, 22)], [("LOC", 17, 22)], None, [], [("LOC", 30, 36)],
]  # fmt: skip
TEXTS = [1, 2, 3, 4, 2]
"""The last row has the second one's text: it counts no more."""
ENTITY = pa.list_(
    pa.struct({"label": pa.string(), "start": pa.int32(), "end": pa.int32(),
               "score": pa.float32(), "text": pa.string()})
)  # fmt: skip


def scored(folder: Path, found: list[Spans | None], cut: int) -> LocalStore:
    """An output of two parts, the first of so many rows."""
    entities = [
        None if spans is None else [
            {"label": label, "start": a, "end": b, "score": 0.5 + b / 100, "text": TEXT[a:b]}
            for label, a, b in spans
        ]
        for spans in found
    ]  # fmt: skip
    gold = [
        None if s is None else [{"label": x, "start": a, "end": b} for x, a, b in s] for s in GOLD
    ]
    table = pa.table({
        "id": ["r0", "r1", "r2", "r3", "r4"], "gold": gold, "kind": ["x", "y", "x", "x", "y"],
        "entities": pa.array(entities, ENTITY),
        "status": pa.array(["error" if s is None else "ok" for s in found]).dictionary_encode(),
        "text_hash": pa.array([n.to_bytes(16, "little") for n in TEXTS], pa.binary(16)),
    })  # fmt: skip
    empty = {"id": ["a"], "status": ["ok"]}
    store = output(folder, [empty, empty], task="token-classification")
    for chunk, part in enumerate((table.slice(0, cut), table.slice(cut))):
        pq.write_table(part, folder / output_layout.part(chunk))
    return store


def compared(folder: Path, **more: Any) -> ComparedEntities:
    return compare_entities(scored(folder / "a", A, 3), scored(folder / "b", B, 1), **more)


def test_rows_meet_whatever_the_parts_and_equal_texts_count_once(tmp_path: Path) -> None:
    found = compared(tmp_path, gold=EntityGold("gold"), slices=["kind"], ask=9)
    assert (found.rows, found.only_a_ok, found.only_b_ok) == (5, 0, 1)
    assert (found.agreement.rows, found.agreement.changed) == (3, 2)
    assert found.agreement.flows == ((Change("LOC", "ORG"), 1), (Change("PER", "PER", True), 1))
    assert found.agreement.f1 == pytest.approx(2 * 1 / 6)
    assert found.paired is not None
    assert found.paired.rows == 2  # one text has no gold entities, one failed in A
    assert [f1.value for f1 in found.paired.f1s] == pytest.approx([2 / 3, 2 / 3])
    assert found.paired.by_label["PER"] == (0, 1, 1, 1, 1)
    by_kind = {v: [f1.value for f1 in paired.f1s] for v, paired in found.slices["kind"].items()}
    assert by_kind == {"x": [0.5, 1.0], "y": [1.0, 0.0]}
    assert [(c.id, c.text, c.change) for c in found.surest] == [
        ("r1", "Paris", Change("LOC", "ORG")), ("r0", "Anna", Change("PER", "PER", True)),
    ]  # fmt: skip
    assert ([row.id for row in found.drawn], found.chance) == (["r0", "r1"], 1.0)
    record = json.loads(json.dumps(as_json(found, ["F1: too low"])))
    assert record["flows"][0] == {"from": "LOC", "to": "ORG", "span_moved": False, "entities": 1}
    assert record["gate"] == {"passed": False, "refused": ["F1: too low"]}
    render_compared_entities(found, [])


def test_the_same_output_has_no_change(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", A, 2)
    found = compare_entities(a, a)
    assert (found.agreement.flips.value, found.agreement.f1, found.surest) == (0.0, 1.0, [])
    assert found.paired is None


def test_a_column_that_is_missing_and_a_slice_without_gold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="no column truth"):
        compared(tmp_path / "1", gold=EntityGold("truth"))
    with pytest.raises(ConfigError, match="--slices compares F1"):
        compared(tmp_path / "2", slices=["kind"])


def test_the_command_has_a_gate_of_f1_and_writes_rows_to_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = scored(tmp_path / "a", A, 3).uri, scored(tmp_path / "b", B, 1).uri
    gate, asked = tmp_path / "gate.toml", tmp_path / "ask.jsonl"

    def call(words: str, **more: Any) -> int:
        gate.write_text(words)
        return compare_outputs(
            session_with(load_settings(), as_json=True), a, b, label_column="gold", slices=(),
            gate=gate, ask=1, ask_to=asked, **more,
        )  # fmt: skip

    assert call("min_f1_delta = -1.0") == ExitCode.OK
    question = json.loads(asked.read_text())
    assert (question["id"], question["probability"]) == ("r0", 0.5)
    assert question["entities_b"][0]["text"] == "Anna Smith"
    assert call("min_f1_delta = 0.0") == ExitCode.GATE
    capsys.readouterr()
    with pytest.raises(ConfigError, match="min_f1_delta, not min_accuracy_delta"):
        call("min_accuracy_delta = 0.0")
    with pytest.raises(ConfigError, match="--map"):
        call("max_flips = 1.0", renamed="0=x")
