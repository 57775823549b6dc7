"""The commands `evaluate`, `compare` and `drift`. Each imports what it needs: `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producers.cli_options import Broker, Date, Json, ModelRegistry, OutputAt


def evaluate(
    output: OutputAt,
    label_column: Annotated[
        str,
        typer.Option(
            "--label-column",
            help="column with the gold label: of the output, or of the file of --labels",
            show_default=False,
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="file with ids and gold labels", show_default=False),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id-column", help="column with the ids in that file", show_default=False),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slices",
            help="columns of the output, e.g. stars,product: accuracy for each value",
            show_default=False,
        ),
    ] = None,
    renamed: Annotated[
        str | None,
        typer.Option(
            "--map", help="names for gold labels, e.g. 0=negative,1=positive", show_default=False
        ),
    ] = None,
    tokens_column: Annotated[
        str | None,
        typer.Option(
            "--tokens-column",
            help="entities: column with the tokens that the gold tags (B-PER) belong to",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare predicted labels or entities with gold ones: accuracy, F1, confusion, slices."""
    from producers.commands.quality.evaluate import evaluate_output
    from producers.commands.session import open_session

    raise typer.Exit(
        evaluate_output(
            open_session({}, as_json=json),
            output,
            label_column=label_column,
            labels=labels,
            id_column=id_column,
            slices=slices.split(",") if slices else (),
            renamed=renamed,
            tokens_column=tokens_column,
        )
    )


def compare(
    a: Annotated[str, typer.Argument(help="output of the model in use", show_default=False)],
    b: Annotated[str, typer.Argument(help="output of the new model", show_default=False)],
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            help="column with the gold label: of A, or of the file of --labels",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="file with ids and gold labels", show_default=False),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id-column", help="column with the ids in that file", show_default=False),
    ] = None,
    renamed: Annotated[
        str | None,
        typer.Option(
            "--map", help="names for gold labels, e.g. 0=negative,1=positive", show_default=False
        ),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slices",
            help="columns of A, e.g. stars,product: the difference for each value",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option("--gate", help="TOML file with what B must keep", show_default=False),
    ] = None,
    ask: Annotated[
        int | None,
        typer.Option(
            "--ask",
            help="write this many rows whose label changed, to be labelled",
            min=1,
            show_default=False,
        ),
    ] = None,
    ask_to: Annotated[
        Path, typer.Option("--ask-to", help="where --ask writes them, as JSON Lines")
    ] = Path("to-label.jsonl"),
    json: Json = False,
) -> None:
    """Compare two outputs of the same rows: flips, label flow, accuracy, slices, a gate."""
    from producers.commands.quality.compare import compare_outputs
    from producers.commands.session import open_session

    raise typer.Exit(
        compare_outputs(
            open_session({}, as_json=json), a, b,
            label_column=label_column, slices=slices.split(",") if slices else (),
            gate=gate, ask=ask, ask_to=ask_to, labels=labels, id_column=id_column, renamed=renamed,
        )
    )  # fmt: skip


def drift(
    output: OutputAt,
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="an earlier output, or models:/NAME@ALIAS: what nights are compared with",
            show_default=False,
        ),
    ],
    nights: Annotated[
        str | None,
        typer.Option(
            "--nights",
            help="outputs of the last 14 days, e.g. 'scored/{date}': what is usual raises the limits",
            show_default=False,
        ),
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(
            "--floor",
            help="smallest distance that is drift, 0 to 1, e.g. 0.1,tokens=0.2; default: 0.1,tokens=0.05",
            show_default=False,
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            help="column of the reference with the gold label: corrects the scores",
            show_default=False,
        ),
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="show texts with the words that became frequent")
    ] = False,
    date: Date = None,
    broker: Broker = None,
    model_registry: ModelRegistry = None,
    json: Json = False,
) -> None:
    """Compare a night with a reference: labels, scores, lengths, words. Exit code 28: it drifted."""
    from producers.commands.quality.drift import drift_of_output
    from producers.commands.session import open_session

    flags = {"date": date, "broker_url": broker, "model_registry": model_registry}
    raise typer.Exit(
        drift_of_output(
            open_session(flags, as_json=json), output, against, nights=nights, floor=floor,
            label_column=label_column, with_texts=with_texts,
        )
    )  # fmt: skip
