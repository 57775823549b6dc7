"""Makes or loads the model that a training begins with, and saves it at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.tasks.contract import LoadRequest
from schemas.errors import MissingExtra, ModelError
from schemas.records.training import TrainingSpec
from workers.models.load import load_tokenizer
from workers.training.model.student import student_of

EXTRA = ("accelerate", "tensorboardX")
"""Packages of the extra `train`, beside `peft` for LoRA."""


def require_training_packages(spec: TrainingSpec) -> None:
    """Check that this worker has the packages for this training.

    Raises:
        MissingExtra: it lacks a package.
    """
    from importlib.util import find_spec

    names = (*EXTRA, "peft") if spec.lora else EXTRA
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"training needs {' and '.join(missing)} on the worker: pip install 'headrace[train]'"
        )


def load_base(folder: Path, spec: TrainingSpec) -> tuple[Any, Any]:
    """Model and tokenizer of a base, with its own head if it has the same labels, else a new one.

    A new head is drawn from torch's generator: seed it before.

    Raises:
        ModelError: the folder has no tokenizer or model that transformers can load for the task.
    """
    import torch
    from transformers import AutoConfig

    request = LoadRequest(str(folder), "cpu", "float32", spec.max_length, {})
    tokenizer = load_tokenizer(request)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    _name_labels(config, spec)
    with _quiet():
        try:
            model = _auto_class(spec).from_pretrained(
                folder, config=config, dtype=torch.float32, local_files_only=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        except (ValueError, OSError, RuntimeError) as error:
            raise ModelError(f"{folder} cannot be trained for {spec.task}: {error}") from error
    if spec.student_layers is not None:
        model = student_of(model, spec.student_layers)
    if spec.max_length is not None:
        tokenizer.model_max_length = spec.max_length
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no padding token")
    return model, tokenizer


def make_model(texts: Sequence[str], spec: TrainingSpec) -> tuple[Any, Any]:
    """A BERT of the requested size, and a WordPiece tokenizer with the words of the texts.

    Weights are drawn from torch's generator: seed it before.
    """
    from transformers import BertConfig

    from workers.training.rows.vocabulary import wordpiece_tokenizer

    assert spec.size is not None
    size, length = spec.size, spec.max_length or 512
    tokenizer = wordpiece_tokenizer(texts, size.vocabulary, length)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.width * 2 if size.width < 256 else size.width * 4,
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,  # so small a model does not memorize its rows
        attention_probs_dropout_prob=0.0,
    )
    _name_labels(config, spec)
    return _auto_class(spec).from_config(config), tokenizer


def _auto_class(spec: TrainingSpec) -> Any:
    """The class of transformers for models of this task."""
    import transformers

    is_token = spec.task == "token-classification"
    kind = "Token" if is_token else "Sequence"
    return getattr(transformers, f"AutoModelFor{kind}Classification")


def _name_labels(config: Any, spec: TrainingSpec) -> None:
    config.num_labels = len(spec.labels)
    config.id2label = dict(enumerate(spec.labels))
    config.label2id = {label: i for i, label in enumerate(spec.labels)}
    kinds = {
        "single_label": "single_label_classification",
        "multi_label": "multi_label_classification",
        "regression": "regression",
    }
    config.problem_type = kinds.get(spec.problem)


def scale_last_layer(model: Any, temperature: float) -> bool:
    """Divide the model's logits by the temperature, in the weights of its last layer.

    So every library that loads the model gives calibrated scores. False where no last layer is
    known; then nothing is changed.
    """
    import torch

    count = model.config.num_labels
    heads = [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and layer.out_features == count
        and name.split(".")[0] in ("classifier", "score", "sequence_summary")
    ]
    if len(heads) != 1:
        return False
    with torch.no_grad():
        for parameter in heads[0].parameters():
            parameter.div_(temperature)
    return True


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights as safetensors, configuration and tokenizer; no pickle among them."""
    with _quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its warning that a new head is untrained."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
