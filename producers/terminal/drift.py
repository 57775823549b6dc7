"""A drift, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from producers.quality.drift import Drift, Feature, Moved
from producers.quality.features import FEATURES, SHARES
from producers.terminal.console import columns, grid, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

ASSUMED = "rows with one score are right as often as before"
UNCALIBRATED = "scores are used as probabilities; name gold labels with --label-column"
CELLS = 5
"""Chosen: cells that are shown of a feature that drifted; `--json` has 15."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A drift with what a person needs beside it."""

    drift: Drift
    output: str
    against: str
    nights: Sequence[str] = ()
    words: Mapping[int, str] = field(default_factory=dict)
    """Token → its word, where the vocabulary is known."""
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Word → texts that have it, only where they were asked for."""


def as_json(shown: Shown) -> dict[str, Any]:
    """The object of `--json`."""
    found = shown.drift
    result: dict[str, Any] = {
        "output": shown.output,
        "against": shown.against,
        "nights": list(shown.nights),
        "rows": {"reference": found.reference.rows, "now": found.now.rows},
        "drifted": [f.name for f in found.drifted],
        "features": {f.name: _feature(f, shown.words) for f in found.features},
        "notes": list(found.notes),
    }
    if found.expected is not None:
        result["expected_accuracy"] = {
            "reference": found.expected[0],
            "now": found.expected[1],
            "calibrated": found.is_calibrated,
            "assumption": ASSUMED if found.is_calibrated else UNCALIBRATED,
        }
    if shown.texts:
        result["texts"] = {word: list(texts) for word, texts in shown.texts.items()}
    return result


def render_drift(shown: Shown) -> RenderableType:
    """The verdict, each feature's distance, and what moved in those that drifted."""
    from rich.console import Group

    found = shown.drift
    rows = [
        ("output", f"{shown.output}: {found.now.rows:,} rows"),
        ("against", f"{shown.against}: {found.reference.rows:,} rows"),
        ("limits", _limits(found)),
    ]
    if found.expected is not None:
        before, after = found.expected
        why = ASSUMED if found.is_calibrated else UNCALIBRATED
        rows.append(("expected accuracy", f"{before:.4f} then, {after:.4f} now, if {why}"
                     if found.is_calibrated else f"{before:.4f} then, {after:.4f} now: {why}"))  # fmt: skip
    rows += [("note", note) for note in found.notes]
    table = columns("feature", "distance", "limit", "PSI", "then", "now", "")
    for f in found.features:
        then, now = _values(f)
        verdict = ("drift", "bold red") if f.is_drift else ""
        table.add_row(
            plain(f.name), f"{f.distance.value:.3f}", f"{f.limit:.3f}", f"{f.distance.psi:.3f}",
            plain(then), plain(now), plain(verdict),
        )  # fmt: skip
    parts: list[Any] = [grid(rows), plain(""), table]
    for f in found.drifted:
        if f.moved:
            parts += [plain(""), _moved_table(f, shown.words)]
    for word, texts in shown.texts.items():
        parts += [plain(""), plain(word), *(plain(f"  {text}") for text in texts)]
    return Group(*parts, plain(""), plain(*_verdict(found)))


def _limits(found: Drift) -> str:
    nights = f"the last {found.nights} nights" if found.nights else "no earlier nights were named"
    return f"the floor, or more where the nights differ that much anyway ({nights})"


def _verdict(found: Drift) -> list[Any]:
    if not found.drifted:
        return [("no drift", "bold green")]
    return [("drift", "bold red"), ": " + ", ".join(f.name for f in found.drifted)]


def _values(f: Feature) -> tuple[str, str]:
    """Then and now: the share, or the median."""
    if f.before is None or f.after is None:
        return "", ""
    is_share = f.name in {"new tokens", *(share.name for share in SHARES)}
    return tuple(f"{v:.2%}" if is_share else f"{v:.4g}" for v in (f.before, f.after))  # type: ignore[return-value]


def _moved_table(f: Feature, words: Mapping[int, str]) -> Any:
    table = columns(FEATURES[f.name], "then", "now", "part of the distance")
    for m in f.moved[: 15 if "tokens" in f.name else CELLS]:
        table.add_row(plain(_name(m, words)), f"{m.before:.3%}", f"{m.after:.3%}", f"{m.part:.0%}")
    return table


def _name(m: Moved, words: Mapping[int, str]) -> str:
    return m.name if m.token is None else words.get(m.token, m.name)


def _feature(f: Feature, words: Mapping[int, str]) -> dict[str, Any]:
    return {
        "what": FEATURES[f.name],
        "distance": f.distance.value,
        "limit": f.limit,
        "drift": f.is_drift,
        "divergence": f.distance.divergence,
        "bias": f.distance.bias,
        "psi": f.distance.psi,
        "then": f.before,
        "now": f.after,
        "moved": [
            {"name": _name(m, words), "then": m.before, "now": m.after, "part": m.part}
            for m in f.moved
        ],
    }
