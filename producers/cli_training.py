"""The commands `train` and `retrain`. They import what they need when called: `--help` is fast."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from headrace.process.setting_options import SETTINGS, parameters_of, with_settings
from producers.cli_options import Date, Json, ModelRegistry, Wait

LEARNING = "How it learns"
PLACE = "How it is run"
OF_THE_ROWS = (
    "text_column",
    "text_pair_column",
    "id_column",
    "limit",
    "pattern",
    "literal",
    "date",
)
OF_THE_RUN = (
    "broker_url", "queue", "priority", "registry", "device", "dtype", "threads", "max_attempts", "revision",
    "allow_pickle", "on_finish",
)  # fmt: skip


def training_parameters() -> list[inspect.Parameter]:
    """The settings that are options of `train`."""
    store = [name for name, it in SETTINGS.items() if it.group == "Object store"]
    return [
        *parameters_of(OF_THE_ROWS, group="The rows"),
        *parameters_of(OF_THE_RUN, {"broker_url": "--broker"}, group=PLACE),
        *parameters_of(store, group="Object store"),
    ]


def _learning(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, show_default=False, rich_help_panel=LEARNING, **more)


@with_settings(training_parameters())
def train(
    labelled: Annotated[
        list[str],
        typer.Argument(help="files or folders of labelled rows, Parquet or JSON Lines", show_default=False),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="folder or s3://bucket/prefix for model and report"),
    ],
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column", show_default=False,
            help="column with the label: text, integer, bool, list, fraction, or entities; default: label, "
            "with --teacher none",
        ),
    ] = None,
    task: Annotated[
        Literal["text-classification", "token-classification"],
        typer.Option("--task", help="what the model will do"),
    ] = "text-classification",
    tokens_column: Annotated[
        str | None,
        typer.Option(
            "--tokens-column", show_default=False,
            help="tokens of each row, where the labels are their tags (B-PER); joined by spaces they are the text",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", show_default=False,
            help="model to begin with: local folder, hub id, s3:// folder, or models:/NAME@ALIAS",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="make a new BERT of the --size instead")
    ] = False,
    size: Annotated[
        str,
        typer.Option("--size", help="layers x width x vocabulary of a new model"),
    ] = "2x128x4000",
    problem: Annotated[
        Literal["single-label", "multi-label", "regression"] | None,
        typer.Option("--problem", help="default: as the labels say", show_default=False),
    ] = None,
    renamed: Annotated[
        str | None,
        typer.Option("--map", help="names for labels, e.g. 0=negative,1=positive", show_default=False),
    ] = None,
    validation: Annotated[
        str,
        typer.Option("--validation", help="share of the texts, or a file of labelled rows"),
    ] = "0.1",
    class_weights: Annotated[
        Literal["balanced"] | None,
        _learning("balanced: every label counts the same, however many rows it has", "--class-weights"),
    ] = None,
    epochs: Annotated[
        float | None, _learning("passes over the rows; default: 3, from scratch 5", "--epochs")
    ] = None,
    learning_rate: Annotated[
        float | None, _learning("default: 5e-5, from scratch and with --lora 5e-4", "--learning-rate")
    ] = None,
    batch_tokens: Annotated[
        int | None,
        _learning("tokens per batch; default: by the number of rows, up to 4,096", "--batch-tokens"),
    ] = None,
    max_length: Annotated[
        int | None, _learning("maximum tokens per row; default: the model's, up to 512", "--max-length")
    ] = None,
    warmup: Annotated[
        float | None, _learning("share of the steps with a rising rate; default: 0.1", "--warmup")
    ] = None,
    weight_decay: Annotated[float | None, _learning("default: 0.01", "--weight-decay")] = None,
    early_stopping: Annotated[
        int | None,
        _learning("evaluations without a gain after which it ends, 0: never; default: 2", "--early-stopping"),
    ] = None,
    evaluations: Annotated[
        int | None, _learning("evaluations per epoch; default: 1", "--evaluations")
    ] = None,
    seed: Annotated[int | None, _learning("default: 0", "--seed")] = None,
    teacher: Annotated[
        str | None,
        _learning("output of a job of text classification over these rows, whose scores are learned", "--teacher"),
    ] = None,
    student_layers: Annotated[
        int | None,
        _learning("layers of the base that are kept; default: all, of a teacher's model half", "--student-layers"),
    ] = None,
    teacher_temperature: Annotated[
        float | None, _learning("softens the scores that are learned; default: 2", "--teacher-temperature")
    ] = None,
    gold_weight: Annotated[
        float | None,
        _learning("of the gold label where there is a teacher's score too; default: 0.5", "--gold-weight"),
    ] = None,
    lora: Annotated[
        bool, _learning("only small matrices beside the base's layers learn; merged at the end", "--lora")
    ] = False,
    lora_rank: Annotated[int | None, _learning("default: 16", "--lora-rank")] = None,
    lora_alpha: Annotated[int | None, _learning("default: twice the rank", "--lora-alpha")] = None,
    lora_targets: Annotated[
        str | None,
        _learning("ends of layers' names, e.g. query,value; default: every linear layer", "--lora-targets"),
    ] = None,
    sweep: Annotated[
        str | None,
        _learning(
            "train at each point, e.g. 'learning_rate=2e-5,5e-5 seed=0,1', into folders below OUTPUT", "--sweep"
        ),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option("--register", help="name in the model registry for the result", show_default=False),
    ] = None,
    model_registry: ModelRegistry = None,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="train on the fleet of --broker, not on this machine")
    ] = False,
    wait: Wait = False,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:  # fmt: skip
    """Train a classifier of texts or tokens on labelled rows: checked, checkpointed, calibrated, with a card."""
    from producers.commands.training.options import asked_of, lora_of
    from producers.commands.training.train import train_model

    hyperparameters = {
        "epochs": epochs, "learning_rate": learning_rate, "batch_tokens": batch_tokens,
        "max_length": max_length, "warmup": warmup, "weight_decay": weight_decay,
        "early_stopping": early_stopping, "evaluations": evaluations, "seed": seed,
    }  # fmt: skip
    asked = asked_of(
        label_column=label_column or "label", has_gold=teacher is None or label_column is not None,
        teacher=teacher, student_layers=student_layers, teacher_temperature=teacher_temperature,
        gold_weight=gold_weight, task=task, tokens_column=tokens_column, base=base,
        size=size if from_scratch else None,
        problem=problem, renamed=renamed, validation=validation,
        balanced=class_weights == "balanced",
        lora=lora_of(lora, lora_rank, lora_alpha, lora_targets),
        hyperparameters={k: v for k, v in hyperparameters.items() if v is not None},
    )  # fmt: skip
    settings = {**flags, "model_registry": model_registry}
    if sweep is not None:
        from producers.commands.training.sweep import sweep_models

        code = sweep_models(
            settings, labelled, output, asked, sweep, register=register, fleet=fleet, wait=wait, as_json=json
        )  # fmt: skip
    else:
        code = train_model(
            settings, labelled, output, asked, register=register, fleet=fleet, wait=wait, as_json=json
        )  # fmt: skip
    raise typer.Exit(code)


def retrain(
    policy: Annotated[
        Path, typer.Argument(help="TOML file: data, triggers, holdout, gate", show_default=False)
    ],
    date: Date = None,
    model_registry: ModelRegistry = None,
    json: Json = False,
) -> None:
    """Train a candidate if the policy has a reason, judge it, and say how to promote it.

    For one policy and date it trains once, however often it is called. Exit code 27: refused.
    """
    from producers.commands.session import open_session
    from producers.commands.training.retrain import retrain as retrain_by

    session = open_session({"date": date, "model_registry": model_registry}, as_json=json)
    raise typer.Exit(retrain_by(session, policy))
