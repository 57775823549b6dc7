"""What a task is, for producers and workers: columns, options, needs. No torch, no Arrow.

A package offers the `TaskSpec` of its task through the entry-point group `headrace.task_specs`,
under the task's name. Its module must import without torch: `headrace --help` may load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.tasks.items.window_shape import WindowShape
from schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Param:
    """An option of a task: a flag of `run`, `submit` and `plan`, and a parameter of `load`.

    `my_param` becomes `--my-param`; a bool becomes `--my-param/--no-my-param`. A default of None
    means that the task decides.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    """For a str: the allowed values; empty: any."""
    off: str = ""
    """For a bool: the flag for false, e.g. `--single-label`; empty: `--no-` and the name."""
    option: str = ""
    """The flag, where it is not `--` and the name."""
    always: bool = False
    """Written to the job's record even at its default. The record decides the job's id, so only
    options that have always been written have this."""

    @property
    def flag(self) -> str:
        """The flag as typer declares it: `--my-param`, or `--my-param/--no-my-param`."""
        on = self.option or f"--{self.name.replace('_', '-')}"
        return f"{on}/{self.off or on.replace('--', '--no-', 1)}" if self.type is bool else on

    def check(self, value: Any) -> Any:
        """The value in the option's type; an integer is accepted for a float.

        Raises:
            ConfigError: the value has another type.
        """
        if value is None:
            return None
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, self.type) or (self.type is int and isinstance(value, bool)):
            raise ConfigError(f"task option {self.name}: {value!r} is no {self.type.__name__}")
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"task option {self.name}: {value!r} is not one of {', '.join(self.choices)}"
            )
        return value


CheckFiles = Callable[[Callable[[str], Any], Mapping[str, Any], str], object]
"""Raises ModelError or ConfigError for a model's folder that the task cannot do right by: given a
reader of JSON files by name (None where there is none), the task's parameters, and the folder."""


def _whole_folder(read: Callable[[str], Any]) -> str:
    return ""


def _one(params: Mapping[str, Any]) -> float:
    return 1.0


def _no(params: Mapping[str, Any]) -> bool:
    return False


def _none(params: Mapping[str, Any]) -> float:
    return 0.0


def _no_windows(params: Mapping[str, Any], limit: int, is_asked: bool) -> WindowShape | None:
    return None


def _no_more(params: Mapping[str, Any]) -> tuple[str, ...]:
    return ()


def _as_given(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return params


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One row of the catalogue."""

    name: str
    columns: tuple[str, ...] = ()
    """Every column that the task may write; a carried column of the same name is refused at
    submission."""
    more_columns: Callable[[Mapping[str, Any]], tuple[str, ...]] = _no_more
    """Columns that it writes beside these with such parameters, as the record holds them."""
    params: tuple[Param, ...] = ()
    any_params: bool = False
    """`--task-params` may hold names that are not in `params`."""
    head: str | None = None
    """Suffix of the architectures that have the head this task needs; None: any architecture."""
    pairs: bool = False
    """Takes a second text: `--text-pair-column`."""
    needs_pair: bool = False
    """Has no meaning without a second text."""
    needs_model: bool = True
    engine: str | None = None
    """The engine for its model, see `workers.engines.catalog`; None: the task brings its own."""
    generates: bool = False
    """The model writes text. `engine` is then the usual one of `headrace.tasks.generation.engines`,
    and a job may name another."""
    check_files: CheckFiles | None = None
    """What its worker would refuse of the model's files, found at submission."""
    model_folder: Callable[[Callable[[str], Any]], str] = _whole_folder
    """Where in the model's folder its config.json and weights are, given a reader as above."""
    reads_whole_text: Callable[[Mapping[str, Any]], bool] = _no
    """Whether a text longer than the model is read to its end, from the parameters; for estimates."""
    items_per_row: Callable[[Mapping[str, Any]], float] = _one
    """Sequences that the model computes per row, from the task's parameters; for estimates."""
    item_bytes: Callable[[Mapping[str, Any]], float] = _none
    """Text that each of them has beside the row's own; for estimates."""
    window_shape: Callable[[Mapping[str, Any], int, bool], WindowShape | None] = _no_windows
    """The windows in which a text is read, from the parameters, the most tokens of a row, and
    whether an option says how many; None: in none. For estimates."""
    pair_options: tuple[str, ...] = ()
    """The options that name the column with a row's second text, where it has names of its own. If
    several are given, the second text is the columns' texts in this order, with tabs between."""
    pair_may_be_list: bool = False
    """That column may hold lists of texts, which the task gets as JSON."""
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _as_given
    """Checks the parameters together, and makes them what the record holds: a file's content in
    place of its name. Called again with its own result, it changes nothing. Raises ConfigError."""
    label_column: str | None = None
    """Column of labels that the report counts; `entities.label`: a field in a list of structs."""
    score_column: str | None = None
    """Column of scores that the report plots, written in the same way."""
    scored_unit: str = "rows"
    """What a label and a score describe, as the report calls it."""

    def columns_with(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Every column that the task may write with these parameters."""
        return (*self.columns, *self.more_columns(params))

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters for the job's record: the given ones and the defaults that it must hold.

        Raises:
            ConfigError: a name is no option of the task, or a value has another type.
        """
        known = {param.name: param for param in self.params}
        unknown = sorted(given.keys() - known.keys())
        if unknown and not self.any_params:
            listed = ", ".join(known) or "none"
            raise ConfigError(
                f"{self.name} has no option {unknown[0].replace('_', '-')}; its options: {listed}"
            )
        found = {p.name: p.check(given.get(p.name, p.default)) for p in self.params}
        found = dict(self.settle(found))
        kept = {n: v for n, v in found.items() if known[n].always or v != known[n].default}
        return kept | {name: given[name] for name in unknown}
