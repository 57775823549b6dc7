"""`headrace retrain`: a candidate by a policy, its gate's verdict, and the command that promotes it.

Each step is a command of headrace that may be given twice: a step that is done says so and does
nothing. So a retraining that was killed goes on where it was, and a second call does nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

from headrace.models.port import Registry
from headrace.models.registry import open_model_registry
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.commands.models import make_version
from producers.commands.quality.drift import last_nights, read_floors, reference_profile
from producers.commands.quality.evaluate import read_map
from producers.commands.session import Session
from producers.planning.columns import ColumnRequest
from producers.planning.corpus import read_corpus
from producers.planning.discovery import discover
from producers.quality.comparison import compare
from producers.quality.drift import drift
from producers.quality.gold import Gold, evaluate
from producers.quality.gold_entities import EntityGold, evaluate_entities
from producers.quality.paired import Gate, refusals
from producers.quality.pairs.compared_entities import compare_entities
from producers.quality.pairs.entity_changes import refusals_of_entities
from producers.quality.reference import profile_of_output
from producers.retraining.folder import (
    BEGUN,
    VERDICT,
    earlier_trainings,
    folder_name,
    keep_record,
    read_record,
)
from producers.retraining.policy import Policy, read_policy, run_id, train_options
from producers.retraining.triggers import Signs, reasons
from producers.submission.dates import fill_dates, logical_date
from producers.terminal.console import command
from schemas.errors import ConfigError, ExitCode, ModelRegistryError
from schemas.records.model_version import SCHEME
from schemas.records.retraining import RetrainingBegun, RetrainingVerdict

Run = Callable[[Sequence[str]], int]
"""Runs a command of headrace, given its words; returns its exit code."""


def run_headrace(words: Sequence[str]) -> int:
    """A command of headrace in a process of its own; what it says goes to standard error."""
    code = "from producers.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=sys.stderr, check=False)
    return done.returncode


@dataclass(frozen=True, slots=True)
class Place:
    """A policy on a day: its folder, its registry, and what runs its steps."""

    policy: Policy
    day: date
    id: str
    root: Store
    store: Store
    registry: Registry
    settings: Settings
    run: Run

    @property
    def model(self) -> str:
        return f"{self.store.uri}/train/model"

    def dated(self, path: str) -> str:
        return fill_dates(path, self.day)


def retrain(session: Session, path: Path, run: Run = run_headrace) -> int:
    """Train, judge and perhaps promote, if the policy has a reason; returns the exit code."""
    settings, terminal = session.settings, session.terminal
    place = _place(path, settings, run)
    begun = read_record(place.store, BEGUN, RetrainingBegun)
    if begun is None:
        why = reasons(place.policy.triggers, _signs(place), place.day)
        if not why:
            _show(session, place, None, None)
            return ExitCode.OK
        begun = keep_record(place.store, BEGUN, _begin(place, why))
    terminal.note(f"retraining {place.id} of {begun.date}: {'; '.join(begun.reasons)}")
    verdict = read_record(place.store, VERDICT, RetrainingVerdict)
    if verdict is None:
        for words in _steps(place, begun):
            terminal.note(command(*words))
            code = place.run(words)
            if code != ExitCode.OK:
                return code
        verdict = keep_record(place.store, VERDICT, _judge(place, begun))
    _promote(session, place, begun, verdict)
    _show(session, place, begun, verdict)
    return ExitCode.OK if verdict.passed else ExitCode.GATE


def _place(path: Path, settings: Settings, run: Run) -> Place:
    policy = read_policy(path)
    day = logical_date(settings.date, date.today())
    id_ = run_id(policy, day)
    output = fill_dates(policy.output, day).rstrip("/")
    opened = partial(open_store, settings=settings)
    store = opened(f"{output}/{folder_name(day, id_)}")
    return Place(
        policy, day, id_, opened(output), store, open_model_registry(settings), settings, run
    )


def _signs(place: Place) -> Signs:
    """What the triggers look at."""
    policy, settings = place.policy, place.settings
    earlier = list(earlier_trainings(place.root, place.day))
    last = earlier[-1] if earlier else None
    drifted: tuple[str, ...] = ()
    expected = None
    if policy.watch is not None and policy.triggers.need_watch:
        watch = policy.watch
        output, against = place.dated(watch.output), place.dated(watch.against)
        nights = (
            last_nights(watch.nights, place.day, {output, against}, settings)
            if watch.nights
            else {}
        )
        floors, floor = read_floors(watch.floor)
        found = drift(
            reference_profile(against, settings, None), profile_of_output(output, settings),
            tuple(nights.values()), floors, floor,
        )  # fmt: skip
        drifted = tuple(f.name for f in found.drifted)
        expected = None if found.expected is None else found.expected[1]
    return Signs(
        None if last is None else date.fromisoformat(last.date),
        _labelled(place),
        0 if last is None else last.labels,
        drifted,
        expected,
    )


def _labelled(place: Place) -> int:
    """Labelled rows in the files of the policy."""
    opened = partial(open_store, settings=place.settings)
    policy = place.policy
    files = discover([place.dated(p) for p in policy.data], opened)
    wanted = ColumnRequest(
        task=policy.task, text=policy.tokens_column or policy.text_column,
        text_is_list=policy.tokens_column is not None, carried=(policy.label_column,),
    )  # fmt: skip
    return read_corpus(policy.data, files, wanted, None).rows


def _begin(place: Place, why: Sequence[str]) -> RetrainingBegun:
    policy = place.policy
    moves = place.registry.moves(policy.name, policy.alias)
    champion = moves[-1].version if moves else None
    base = policy.base
    if base is None:
        if champion is None:
            raise ConfigError(
                f"{SCHEME}{policy.name}@{policy.alias} points to nothing yet: name a base in the policy"
            )
        base = f"{SCHEME}{policy.name}/{champion}"
    return RetrainingBegun(
        id=place.id, date=place.day.isoformat(), reasons=tuple(why), labels=_labelled(place),
        base=base, champion=champion, moves=len(moves),
    )  # fmt: skip


def _steps(place: Place, begun: RetrainingBegun) -> Iterator[list[str]]:
    """The commands of a retraining, in order."""
    policy, where = place.policy, place.store.uri
    data = [place.dated(path) for path in policy.data]
    rows = ["--text-column", policy.text_column, "--id-column", policy.id_column]
    yield [
        "train", *data, "--output", f"{where}/train", "--base", begun.base, *rows,
        "--label-column", policy.label_column, *(["--map", policy.map] if policy.map else []),
        *_task_words(policy),
        *train_options(policy),
    ]  # fmt: skip
    holdout = place.dated(policy.holdout)
    models = {"candidate": place.model}
    if begun.champion is not None:
        models["champion"] = f"{SCHEME}{policy.name}/{begun.champion}"
    for name, model in models.items():
        yield [
            "run", holdout, "--output", f"{where}/{name}", "--task", policy.task, "--model", model,
            *rows, "--columns", ",".join(_columns(policy)),
        ]  # fmt: skip


def _task_words(policy: Policy) -> list[str]:
    """The options of `train` for entities; none for labels, as ever."""
    if policy.task == "text-classification":
        return []
    tokens = ["--tokens-column", policy.tokens_column] if policy.tokens_column else []
    return ["--task", policy.task, *tokens]


def _columns(policy: Policy) -> list[str]:
    tokens = [policy.tokens_column] if policy.tokens_column else []
    return [policy.label_column, *tokens, *policy.gate.slices]


def _judge(place: Place, begun: RetrainingBegun) -> RetrainingVerdict:
    """Register the candidate, and hold it against the gate."""
    policy = place.policy
    candidate = open_store(f"{place.store.uri}/candidate", place.settings)
    version = make_version(
        place.settings, policy.name, place.model, task=policy.task,
        note=f"headrace retrain {place.id}", reference=candidate.uri,
    ).version  # fmt: skip
    champion = None
    if begun.champion is not None:
        champion = open_store(f"{place.store.uri}/champion", place.settings)
    judge = _judge_labels if policy.task == "text-classification" else _judge_entities
    verdict = judge(policy, candidate, champion)
    if champion is None:
        why = f"no version has the alias {policy.alias}, so there is nothing to compare with"
        verdict = replace(verdict, refused=(why,))
    return RetrainingVerdict(
        candidate=version, passed=not verdict.refused, refused=tuple(verdict.refused),
        accuracy=verdict.accuracy, f1=verdict.f1, delta=verdict.delta,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Judged:
    """How good the candidate is on the holdout, beside the champion if there is one."""

    accuracy: float | None = None
    f1: float | None = None
    delta: float | None = None
    refused: Sequence[str] = ()


def _gate(policy: Policy) -> Gate:
    asked = policy.gate
    return Gate(asked.min_accuracy_delta, asked.max_flips, asked.slices, asked.min_f1_delta)


def _judge_labels(policy: Policy, candidate: Store, champion: Store | None) -> _Judged:
    gold = Gold(policy.label_column, None, read_map(policy.map))
    accuracy = evaluate(candidate, gold).overall.accuracy.value
    if champion is None:
        return _Judged(accuracy)
    found = compare(champion, candidate, gold=gold, slices=list(policy.gate.slices))
    refused = refusals(_gate(policy), found.agreement, found.paired, found.slices)
    return _Judged(accuracy, None, found.paired.delta.value if found.paired else None, refused)


def _judge_entities(policy: Policy, candidate: Store, champion: Store | None) -> _Judged:
    gold = EntityGold(policy.label_column, policy.tokens_column)
    f1 = evaluate_entities(candidate, gold).counts.micro.f1
    if champion is None:
        return _Judged(None, f1)
    found = compare_entities(champion, candidate, gold=gold, slices=list(policy.gate.slices))
    refused = refusals_of_entities(_gate(policy), found.agreement, found.paired, found.slices)
    return _Judged(None, f1, found.paired.delta.value if found.paired else None, refused)


def _promote(
    session: Session, place: Place, begun: RetrainingBegun, verdict: RetrainingVerdict
) -> None:
    """Move the aliases; that of the champion only if the policy says so and the gate agrees."""
    policy, by = place.policy, "headrace retrain"
    why = f"retraining {place.id}"
    place.registry.promote(policy.name, "candidate", verdict.candidate, by=by, why=why)
    if policy.promote != "gate" or not verdict.passed:
        return
    moves = place.registry.moves(policy.name, policy.alias)
    if any(move.version == verdict.candidate for move in moves[begun.moves :]):
        return  # an earlier call did it; what came since is not undone
    try:
        place.registry.promote(
            policy.name, policy.alias, verdict.candidate, seen=begun.moves, by=by, why=why
        )
    except ModelRegistryError as error:
        session.terminal.warn(f"not promoted: {error}")


def _show(
    session: Session,
    place: Place,
    begun: RetrainingBegun | None,
    verdict: RetrainingVerdict | None,
) -> None:
    policy, terminal = place.policy, session.terminal
    moves = place.registry.moves(policy.name, policy.alias)
    version = None if verdict is None else verdict.candidate
    is_promoted = bool(moves) and moves[-1].version == version
    words = (
        "models",
        "promote",
        policy.name,
        str(version),
        policy.alias,
        "--seen",
        str(len(moves)),
    )
    if session.as_json:
        terminal.print_json({
            "id": place.id, "date": place.day.isoformat(), "folder": place.store.uri,
            "begun": None if begun is None else begun.model_dump(),
            "verdict": None if verdict is None else verdict.model_dump(),
            "promoted": is_promoted,
            "promote_with": None if verdict is None or is_promoted else command(*words),
        })  # fmt: skip
        return
    if verdict is None:
        terminal.say(f"no trigger of {policy.name} has a reason on {place.day}: nothing was done")
        return
    accuracy = "" if verdict.accuracy is None else f", accuracy {verdict.accuracy:.4f}"
    if verdict.f1 is not None:
        accuracy = f", F1 of entities {verdict.f1:.4f}"
    delta = "" if verdict.delta is None else f" ({verdict.delta:+.4f} to the champion)"
    terminal.say(f"candidate: {SCHEME}{policy.name}/{version}{accuracy}{delta}")
    if verdict.passed:
        terminal.say(("gate: passed", "bold green"))
    else:
        terminal.say(("gate: refused", "bold red"))
        for line in verdict.refused:
            terminal.say(f"  {line}")
    if is_promoted:
        terminal.say(f"promoted to {policy.alias}")
    else:
        terminal.say(f"promote it with: {command(*words)}")
