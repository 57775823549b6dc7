"""A training: what decides its model, what a checkpoint is, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.entity_tags import labels_of_tags
from schemas.errors import OutputConflict

SPLIT = "split"
"""Column of the labelled rows: which side of the split a row is on."""
TEACHER = "teacher_scores"
"""Column of the labelled rows: the probabilities that a teacher gave each label."""
TRAIN, VALIDATION, UNLABELLED, LEAKED = "train", "validation", "unlabelled", "leaked"
"""Values of that column; `leaked`: a training row whose text is in the validation file."""

Problem = Literal["single_label", "multi_label", "regression", "entities"]
BEST_BY: Mapping[Problem, str] = {
    "single_label": "macro_f1", "multi_label": "macro_f1", "regression": "r2", "entities": "f1",
}  # fmt: skip
"""The score by which a checkpoint is the best, by the kind of problem; larger is better."""
ModelTask = Literal["text-classification", "token-classification"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Size(_Record):
    """A model that is made and not loaded: a BERT of this size, with a vocabulary of its own."""

    layers: int = Field(2, ge=1, le=48)
    width: int = Field(128, ge=8, le=4096)
    vocabulary: int = Field(4_000, ge=100, le=250_000)

    @property
    def heads(self) -> int:
        """Of 64 numbers each, as in BERT; of 32 below a width of 256."""
        return max(1, self.width // (64 if self.width >= 256 else 32))


class Lora(_Record):
    """Small matrices that learn beside the layers of a base, which stays as it is."""

    rank: int = Field(16, ge=1, le=1_024)
    alpha: int = Field(32, ge=1)
    """What they say is multiplied by alpha / rank."""
    targets: tuple[Annotated[str, Field(pattern=r"^[\w.]+$")], ...] = ()
    """How the layers' names end; empty: every linear layer of the encoder."""


class Distillation(_Record):
    """How a student learns the scores of a teacher."""

    job: str
    """Id of the job that scored the rows."""
    temperature: float = Field(2.0, gt=0, le=100)
    """Scores of teacher and student are softened by it before they are compared."""
    gold_weight: float = Field(0.5, ge=0, le=1)
    """Of the gold label, where a row has both."""


class TrainingSpec(_Record):
    """What decides the model, beside the labelled rows and the base: part of the job's id."""

    task: ModelTask = "text-classification"
    problem: Problem
    label_column: str
    labels: tuple[str, ...]
    """In the order of the model's outputs; for a regression the column's name, for entities tags."""
    size: Size | None = None
    """Of a model that is trained from scratch; None: a base is loaded."""
    lora: Lora | None = None
    distillation: Distillation | None = None
    student_layers: int | None = Field(None, ge=1)
    """Layers of the base that are kept; None: all."""
    epochs: float = Field(3.0, gt=0, le=1_000)
    learning_rate: float = Field(5e-5, gt=0, le=1)
    batch_tokens: int | None = Field(None, ge=16)
    """Tokens of a batch, padding included; None: from the number of tokens there are."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    max_length: int | None = Field(None, ge=4)
    seed: int = Field(0, ge=0, lt=2**32)
    class_weights: tuple[float, ...] | None = None
    early_stopping: int = Field(2, ge=0)
    """Evaluations without a gain after which it ends; 0: never."""
    evaluations: int = Field(1, ge=1, le=100)
    """Evaluations per epoch."""

    def to_params(self) -> dict[str, Any]:
        """As the job's record has it. What came later is left out where it is not used: so a
        command means the same job as before."""
        later = ("lora", "distillation", "student_layers")
        return self.model_dump(
            mode="json", exclude={name for name in later if getattr(self, name) is None}
        )

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """What scores are counted by: of entities their labels, without `B-` and `I-`."""
        return labels_of_tags(self.labels) if self.problem == "entities" else self.labels


class StoredFile(_Record):
    """A file of a commit."""

    name: str = Field(max_length=256, pattern=r"^[\w.-]+$")
    size: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Checkpoint(_Record):
    """`checkpoints/000400.json`: the commit of a training's state; its files stand in `folder`."""

    version: Literal[1] = 1
    step: int = Field(ge=0)
    attempt: str = Field(pattern=r"^[0-9a-f]{16}$")
    folder: str
    files: tuple[StoredFile, ...]
    best_step: int | None = None
    best_score: float | None = None
    waited: int = 0
    """Evaluations since the best one."""
    history: tuple[dict[str, float], ...] = ()
    """What was logged so far: step, loss, learning rate; step and scores of an evaluation."""


class ModelFiles(_Record):
    """`_headrace/model.json`: which attempt's files are the model. Created only if absent."""

    version: Literal[1] = 1
    attempt: str = Field(pattern=r"^[0-9a-f]{16}$")
    folder: str
    files: tuple[StoredFile, ...]


class ClassScore(_Record):
    """One label on the validation rows."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


class TrainingResult(_Record):
    """`model/training.json`: how the model was made and how good it is."""

    version: Literal[1] = 1
    base: str
    base_revision: str
    spec: TrainingSpec
    data_digest: str
    rows: dict[str, int]
    """Rows by their side of the split."""
    label_rows: dict[str, int]
    """Training rows by label; entities in them by theirs."""
    steps: int
    best_step: int
    epochs: float
    stopped_early: bool
    scores: dict[str, float]
    """On the validation rows: `accuracy`, `macro_f1`, `loss`, `calibration_error` …"""
    classes: tuple[ClassScore, ...] = ()
    temperature: float = 1.0
    """The logits are divided by it: fitted on the validation rows."""
    parameters: int
    learned_parameters: int | None = None
    """With LoRA: of adapters and head; None: all of them."""
    tokens: int
    """Trained on, without padding."""
    padding: int
    seconds: float
    """Of training in the attempt that ended it, without loading and evaluating."""
    rows_per_s: float
    attempts: int
    resumed_from: int
    """Step of the checkpoint that the last attempt went on from; 0: none."""
    device: str
    versions: dict[str, str] = Field(default_factory=dict)
    history: tuple[dict[str, float], ...] = ()


def parse_checkpoint(data: bytes, where: str) -> Checkpoint:
    """The record in the bytes.

    Raises:
        OutputConflict: they are none.
    """
    try:
        return Checkpoint.model_validate_json(data)
    except ValidationError as error:
        raise OutputConflict(
            f"{where} cannot be read as a checkpoint ({error.error_count()} faults)"
        ) from error
