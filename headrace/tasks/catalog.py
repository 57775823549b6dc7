"""The known tasks and what each needs: one table for producers and workers.

A task of an installed package is found by its entry points: `headrace.tasks` names its class,
`headrace.task_specs` its `TaskSpec`. Without a `TaskSpec` its only options are `--task-params`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from headrace.tasks import candidate_labels
from headrace.tasks.generation.specs import GENERATION_SPECS
from headrace.tasks.items import questions, windows
from headrace.tasks.items.choices import CHOICE
from headrace.tasks.sentence_files import (
    POOLINGS,
    check_adapter,
    recipe_of,
    scoring_of,
    splade_of,
    transformer_folder,
)
from headrace.tasks.spec import Param, TaskSpec
from schemas.errors import ConfigError
from schemas.records.engine import PACKED
from schemas.training_tasks import TOKEN_TRAINING, TRAINING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def check_active_dims(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises ConfigError: fewer than one weight of a vector."""
    most = params.get("max_active_dims")
    if most is not None and most < 1:
        raise ConfigError(f"--max-active-dims {most}: a vector keeps at least one weight")
    return params


TASKS = "headrace.tasks"
IN_WINDOWS = "headrace.tasks_in_windows"
"""The same tasks, for texts that are read in windows."""
SPECS = "headrace.task_specs"

MULTI_LABEL = Param(
    "multi_label",
    bool,
    "labels are independent; default: as the model says; zero-shot: they are not",
    off="--single-label",
    always=True,
)

LONG_TEXT = Param(
    "long_text",
    str,
    "text longer than the model: truncate, or read in windows that are brought together",
    "truncate",
    choices=("truncate", windows.WINDOW),
)
COMBINE = Param(
    "combine", str, "how windows become a row: mean (default) or max", choices=("mean", "max")
)
STRIDE = Param("stride", int, "tokens that neighbouring windows of a long text share")

TEXT_CLASSIFICATION = TaskSpec(
    name="text-classification",
    columns=("predicted_label", "score", "scores"),
    params=(
        Param("scores", bool, "also write the score of every label", False, always=True),
        MULTI_LABEL,
        LONG_TEXT,
        STRIDE,
        COMBINE,
    ),
    head="ForSequenceClassification",
    check_files=lambda read, params, where: scoring_of(read, read("config.json") or {}, where),
    pairs=True,
    settle=windows.settle,
    reads_whole_text=windows.reads_windows,
    engine=PACKED,
    label_column="predicted_label",
    score_column="score",
)

TOKEN_CLASSIFICATION = TaskSpec(
    name="token-classification",
    columns=("entities", "cut_word"),
    params=(
        Param(
            "aggregation",
            str,
            "how tokens become entities: none, simple, first, average or max",
            "simple",
            choices=("none", "simple", "first", "average", "max"),
            always=True,
        ),
        LONG_TEXT,
        STRIDE,
    ),
    settle=windows.settle,
    reads_whole_text=windows.reads_windows,
    head="ForTokenClassification",
    check_files=lambda read, params, where: check_adapter(read, where),
    engine=PACKED,
    label_column="entities.label",
    score_column="entities.score",
    scored_unit="entities",
)

FEATURE_EXTRACTION = TaskSpec(
    name="feature-extraction",
    columns=("embedding",),
    params=(
        Param(
            "pooling",
            str,
            f"how tokens become one vector: auto, {', '.join(POOLINGS)}",
            "auto",
            choices=("auto", *POOLINGS),
            always=True,
        ),
        Param(
            "normalize", bool, "scale vectors to length 1; default: as the model says", always=True
        ),
        Param(
            "prompt_name",
            str,
            "prompt of the model's own before each text; none: no prompt; default: as the model says",
        ),
        Param("truncate_dim", int, "numbers of a vector that are kept; default: as the model says"),
        LONG_TEXT,
        STRIDE,
        COMBINE,
    ),
    settle=windows.settle,
    reads_whole_text=windows.reads_windows,
    check_files=recipe_of,
    model_folder=transformer_folder,
    engine=PACKED,
)

ZERO_SHOT_CLASSIFICATION = TaskSpec(
    name="zero-shot-classification",
    columns=("predicted_label", "score", "scores"),
    params=(
        Param("candidate_labels", str, "labels a,b,c, or a file with one a line"),
        Param("labels_column", str, "column with the labels of each row"),
        Param(
            "hypothesis_template",
            str,
            "hypothesis about a label, with {} for the label",
            candidate_labels.DEFAULT_TEMPLATE,
            always=True,
        ),
        MULTI_LABEL,
        Param("threshold", float, "lowest score of a label that is written"),
    ),
    head="ForSequenceClassification",
    check_files=candidate_labels.check_entailment,
    engine=PACKED,
    items_per_row=candidate_labels.items_of,
    item_bytes=candidate_labels.hypothesis_bytes,
    pair_options=("labels_column",),
    pair_may_be_list=True,
    settle=candidate_labels.settle,
    label_column="predicted_label",
    score_column="score",
)

TEXT_RANKING = TaskSpec(
    name="text-ranking",
    columns=("score",),
    head="ForSequenceClassification",
    check_files=lambda read, params, where: scoring_of(read, read("config.json") or {}, where),
    pairs=True,
    needs_pair=True,
    engine=PACKED,
    score_column="score",
)

QUESTION_ANSWERING = TaskSpec(
    name="question-answering",
    columns=("answer", "score", "start", "end", "null_score", "answers"),
    params=(
        Param("question", str, "question that is asked of every row"),
        Param("question_column", str, "column with the question of each row"),
        Param("top_k", int, "answers of a row; default: 1"),  # of other tasks too
        Param("max_answer_len", int, "longest answer in tokens", 15),
        STRIDE,
        Param("impossible", bool, "an answer may be that there is none", False),
    ),
    head="ForQuestionAnswering",
    check_files=lambda read, params, where: check_adapter(read, where),
    pair_options=("question_column",),
    settle=questions.settle,
    reads_whole_text=lambda params: True,
    window_shape=questions.window_shape,
    engine=PACKED,
    score_column="score",
)

SPARSE_EMBEDDING = TaskSpec(
    name="sparse-embedding",
    columns=("sparse_embedding",),
    params=(
        Param("max_active_dims", int, "largest weights of a vector that are kept; default: all"),
    ),
    head="ForMaskedLM",
    check_files=lambda read, params, where: splade_of(read, where),
    settle=check_active_dims,
    engine=PACKED,
)

FAKE = TaskSpec(
    name="fake", columns=("length", "digest"), any_params=True, pairs=True, needs_model=False
)

TRAINING_SPEC = TaskSpec(
    name=TRAINING,
    columns=("predicted_label", "score"),
    any_params=True,
    pairs=True,
    needs_model=False,  # nothing is scored with one: `--base` is its own matter
    label_column="predicted_label",
    score_column="score",
)
"""A job that trains: what `headrace train` submits. No `--task` of `run`, `submit` or `plan`."""

TOKEN_TRAINING_SPEC = TaskSpec(
    name=TOKEN_TRAINING,
    columns=("entities",),
    any_params=True,
    needs_model=False,
    label_column="entities.label",
    score_column="entities.score",
)
"""The same, for a model of token classification."""

_TRAININGS = {spec.name: spec for spec in (TRAINING_SPEC, TOKEN_TRAINING_SPEC)}

BUILT_IN: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TEXT_CLASSIFICATION,
        TOKEN_CLASSIFICATION,
        FEATURE_EXTRACTION,
        ZERO_SHOT_CLASSIFICATION,
        TEXT_RANKING,
        SPARSE_EMBEDDING,
        QUESTION_ANSWERING,
        CHOICE,
        *GENERATION_SPECS,
        FAKE,
    )
}


def task_names() -> list[str]:
    """Names of the installed tasks, from their entry points; no task is imported."""
    return sorted({point.name for group in (TASKS, SPECS) for point in _points(group)})


def task_spec(name: str, points: Iterable[EntryPoint] | None = None) -> TaskSpec:
    """The spec of the task; a task without a spec of its own accepts any parameters.

    `points` defaults to what is installed.

    Raises:
        ConfigError: a package's spec cannot be imported, or has another name.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in _TRAININGS:
        return _TRAININGS[name]
    return _installed(name) if points is None else _described(name, points)


def plug_in_specs(points: Iterable[EntryPoint] | None = None) -> list[TaskSpec]:
    """Specs of other packages' tasks, by name; specs that cannot be imported are left out."""
    points = list(_points(SPECS) if points is None else points)
    found = []
    for name in sorted({point.name for point in points} - BUILT_IN.keys()):
        try:
            found.append(_described(name, points))
        except ConfigError:  # raised again by the job that names this task
            continue
    return found


@cache
def _installed(name: str) -> TaskSpec:
    return _described(name, _points(SPECS))


def _points(group: str) -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # 0.1 s, which `--help` need not pay

    return entry_points(group=group)


def _described(name: str, points: Iterable[EntryPoint]) -> TaskSpec:
    for point in points:
        if point.name != name:
            continue
        try:
            spec = point.load()
        except Exception as error:  # another package's code may raise anything
            raise ConfigError(
                f"task {name!r}: {point.value} cannot be imported: {error}"
            ) from error
        if not isinstance(spec, TaskSpec) or spec.name != name:
            raise ConfigError(f"task {name!r}: {point.value} is not the TaskSpec of that name")
        return spec
    return TaskSpec(name=name, any_params=True)
