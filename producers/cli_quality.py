"""The commands `evaluate`, `compare`, `rank` and `drift`. Each imports what it needs: `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producers.cli_options import Broker, Date, Json, ModelRegistry, OutputAt, given, named

Labels = Annotated[str | None, named("file with ids and gold labels", "--labels")]
LabelIds = Annotated[str | None, named("column with the ids in that file", "--id-column")]
Renamed = Annotated[str | None, named("names for gold labels, e.g. 0=negative,1=positive", "--map")]

TokensColumn = Annotated[
    str | None,
    named(
        "entities: column with the tokens that the gold tags (B-PER) belong to", "--tokens-column"
    ),
]


def evaluate(
    output: OutputAt,
    label_column: Annotated[
        str,
        named(
            "column with the gold label: of the output, or of the file of --labels",
            "--label-column",
        ),
    ],
    labels: Labels = None,
    id_column: LabelIds = None,
    slices: Annotated[
        str | None,
        named("columns of the output, e.g. stars,product: accuracy for each value", "--slices"),
    ] = None,
    renamed: Renamed = None,
    tokens_column: TokensColumn = None,
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
    a: Annotated[str, given("output of the model in use")],
    b: Annotated[str, given("output of the new model")],
    label_column: Annotated[
        str | None,
        named(
            "column with gold labels or entities: of A, or of the file of --labels",
            "--label-column",
        ),
    ] = None,
    labels: Labels = None,
    id_column: LabelIds = None,
    renamed: Renamed = None,
    slices: Annotated[
        str | None,
        named("columns of A, e.g. stars,product: the difference for each value", "--slices"),
    ] = None,
    gate: Annotated[
        Path | None,
        named("TOML file with what B must keep", "--gate"),
    ] = None,
    ask: Annotated[
        int | None,
        named("write this many rows that changed, to be labelled", "--ask", min=1),
    ] = None,
    ask_to: Annotated[
        Path, typer.Option("--ask-to", help="where --ask writes them, as JSON Lines")
    ] = Path("to-label.jsonl"),
    tokens_column: TokensColumn = None,
    json: Json = False,
) -> None:
    """Compare two outputs of the same rows: labels or entities that changed, accuracy, a gate."""
    from producers.commands.quality.compare import compare_outputs
    from producers.commands.session import open_session

    raise typer.Exit(
        compare_outputs(
            open_session({}, as_json=json), a, b,
            label_column=label_column, slices=slices.split(",") if slices else (),
            gate=gate, ask=ask, ask_to=ask_to, labels=labels, id_column=id_column, renamed=renamed,
            tokens_column=tokens_column,
        )
    )  # fmt: skip


def rank(
    output: OutputAt,
    group_column: Annotated[
        str, named("column of the output with the group of a row, e.g. query_id", "--group-column")
    ],
    to: Annotated[Path, named("Parquet file to write", "--to")],
    json: Json = False,
) -> None:
    """Write the rows of a text-ranking output with their ranks: 1 for the best of each group."""
    from producers.commands.quality.rank import rank_output
    from producers.commands.session import open_session

    session = open_session({}, as_json=json)
    raise typer.Exit(rank_output(session, output, group_column=group_column, to=to))


def drift(
    output: OutputAt,
    against: Annotated[
        str,
        named(
            "an earlier output, or models:/NAME@ALIAS: what nights are compared with", "--against"
        ),
    ],
    nights: Annotated[
        str | None,
        named(
            "outputs of the last 14 days, e.g. 'scored/{date}': what is usual raises the limits",
            "--nights",
        ),
    ] = None,
    floor: Annotated[
        str | None,
        named(
            "smallest distance that is drift, 0 to 1, e.g. 0.1,tokens=0.2; default: 0.1,tokens=0.05",
            "--floor",
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        named("column of the reference with the gold label: corrects the scores", "--label-column"),
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
