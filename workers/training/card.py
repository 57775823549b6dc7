"""Writes the model card: what the model is, its origin, its scores and its limits."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.records.training import TrainingResult

RARE = 0.05
"""Share of the training rows under which a label is called rare."""


def model_card(
    result: TrainingResult, *, job: str, licence: str | None, inputs: Sequence[str]
) -> str:
    """The `README.md` for model hubs, made from the training's record."""
    spec = result.spec
    head = ["---", *([f"license: {licence}"] if licence else []), "library_name: transformers",
            f"pipeline_tag: {spec.task}", "tags: [headrace]", "---"]  # fmt: skip
    rows = result.rows
    parts = [
        "\n".join(head),
        f"# {spec.task}: {', '.join(spec.shown_labels[:10])}{' …' if len(spec.shown_labels) > 10 else ''}",
        f"Trained by headrace (job {job}) on {rows.get('train', 0):,} labelled rows.",
        _table("Base", [
            ("model", result.base or "none: trained from scratch"),
            ("revision", result.base_revision or "–"),
            ("licence", _licence(result, licence)),
        ]),
        _table("Data", [
            *((f"file {i}", uri) for i, uri in enumerate(inputs, 1)),
            ("digest of the labelled rows", result.data_digest),
            *((f"rows: {side}", f"{count:,}") for side, count in rows.items()),
        ]),
        _labels(result),
        _table("Scores on the validation rows", [
            *((name, f"{value:.4f}") for name, value in result.scores.items()),
            *([("temperature", f"{result.temperature:.3f}")] if result.temperature != 1 else []),
        ]),
        _table("Training", [
            ("epochs", f"{result.epochs:g} of {spec.epochs:g}"),
            ("steps", f"{result.steps:,}, best {result.best_step:,}"),
            ("learning rate", f"{spec.learning_rate:g}"),
            ("seed", str(spec.seed)),
            ("parameters", f"{result.parameters:,}"),
            *_lora(result),
            *_student(result),
            ("device", result.device),
        ]),
        _table("Versions", sorted(result.versions.items())),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits(result)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _licence(result: TrainingResult, stated: str | None) -> str:
    if not result.base:
        return "yours: no weights of others are in it"
    return stated or "not stated by the base: find out before you pass the model on"


def _lora(result: TrainingResult) -> list[tuple[str, str]]:
    lora = result.spec.lora
    if lora is None or result.learned_parameters is None:
        return []
    share = result.learned_parameters / max(1, result.parameters)
    targets = ", ".join(lora.targets) or "every linear layer"
    return [
        ("LoRA", f"rank {lora.rank}, alpha {lora.alpha}, {targets}; merged into the weights"),
        ("parameters that learned", f"{result.learned_parameters:,} ({share:.1%})"),
    ]


def _student(result: TrainingResult) -> list[tuple[str, str]]:
    spec, found = result.spec, []
    if spec.student_layers is not None:
        found.append(("layers of the base", f"{spec.student_layers}, evenly spread"))
    if spec.distillation is not None:
        by = spec.distillation
        found.append(("teacher", f"job {by.job}, temperature {by.temperature:g}"))
    return found


def limits(result: TrainingResult) -> list[str]:
    """Limits of the model, for readers of the card."""
    found = [
        "The scores hold for rows like the validation rows. On other sources, times or languages "
        "nothing is known.",
    ]
    validation = result.rows.get("validation", 0)
    if validation < 1_000:
        found.append(f"There are only {validation:,} validation rows: the scores are uncertain.")
    if result.spec.distillation is not None:
        found.append(
            "Where a validation row has no gold label, that of the teacher counts as right."
        )
    found += rare_labels(result)
    if result.spec.problem == "single_label" and result.temperature != 1:
        found.append(
            "The confidence is calibrated on the validation rows, by a temperature that is part "
            "of the weights of the last layer."
        )
    return found


def rare_labels(result: TrainingResult) -> list[str]:
    """A sentence for each label with under 5 % of the training rows."""
    total = sum(result.label_rows.values())
    scored = {c.label: c for c in result.classes}
    unit = "entities" if result.spec.problem == "entities" else "rows"
    return [
        f"Label {label} has {count / total:.1%} of the training {unit} ({count:,})"
        + (f"; its F1 is {scored[label].f1:.2f}." if label in scored else ".")
        for label, count in result.label_rows.items()
        if total and count / total < RARE
    ]


def _labels(result: TrainingResult) -> str:
    scored = {c.label: c for c in result.classes}
    unit = "entities" if result.spec.problem == "entities" else "rows"
    lines = ["## Labels", "", f"| label | training {unit} | validation {unit} | precision | recall | F1 |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for label in result.spec.shown_labels:
        c = scored.get(label)
        count = result.label_rows.get(label)
        numbers = ("–", "–", "–", "–") if c is None else (
            f"{c.rows:,}", f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}"
        )  # fmt: skip
        shown = "–" if count is None else f"{count:,}"
        lines.append(f"| {' | '.join((_cell(label), shown, *numbers))} |")
    return "\n".join(lines)


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"## {title}", "", "| | |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {_cell(a)} | {_cell(b)} |" for a, b in rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
