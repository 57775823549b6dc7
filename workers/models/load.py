"""Tokenizer, configuration and weights from a local folder, with the refusals made early and clear.

Nothing here reaches for the network: the folder was resolved before (`workers.models.fetch`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.tasks.contract import LoadRequest
from schemas.errors import ModelError

# Tokens of a row for a model that states no limit anywhere. Chosen: what most encoders have.
DEFAULT_MAX_LENGTH = 512


def load_config(request: LoadRequest) -> Any:
    """The model's configuration.

    Raises:
        ModelError: the folder has none, or it names a kind of model that transformers lacks.
    """
    from transformers import AutoConfig

    if not (Path(request.model_path) / "config.json").is_file():
        raise ModelError(f"{request.model_path} holds no config.json: it is not a model's folder")
    return _from_folder(AutoConfig, request)


def check_head(config: Any, request: LoadRequest, suffix: str, task: str) -> None:
    """Refuse a model whose own architecture lacks the head: its weights would be random.

    Raises:
        ModelError: no architecture of the configuration ends with `suffix`.
    """
    names = list(getattr(config, "architectures", None) or [])
    if names and not any(name.endswith(suffix) for name in names):
        raise ModelError(
            f"{request.model_path} has no head for {task}: it is a {', '.join(names)}, "
            f"and {task} needs one that ends with {suffix}"
        )


def check_labels(request: LoadRequest, config: Any, width: int) -> None:
    """Check that the model gives one number for each of its labels.

    Raises:
        ModelError: it gives more or fewer, and they would be called by others' names.
    """
    if width != config.num_labels:
        raise ModelError(
            f"{request.model_path} gives {width} numbers and names {config.num_labels} labels"
        )


def load_tokenizer(request: LoadRequest) -> Any:
    """The model's tokenizer, one that the Rust library runs.

    Raises:
        ModelError: there is none in the folder, or it is written in Python only.
    """
    from transformers import AutoTokenizer

    tokenizer = _from_folder(AutoTokenizer, request)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{request.model_path}: its tokenizer, {type(tokenizer).__name__}, has no "
            "tokenizer.json, and headrace runs only those of the tokenizers library"
        )
    return tokenizer


def load_model(
    request: LoadRequest, config: Any, auto_class: Any, unused: tuple[str, ...] = ()
) -> Any:
    """The model in its precision on its device, in eval mode; for int8 in fp32, to be rounded.

    `unused` names weights that a checkpoint may lack, because their output is not used.

    Raises:
        ModelError: no safetensors weights (and pickle is not allowed), weights that are missing
            from the checkpoint, or an unsupported precision.
    """
    import torch

    if request.dtype not in ("float32", "bfloat16", "float16", "int8"):
        raise ModelError(f"dtype {request.dtype!r} is not float32, bfloat16, float16 or int8")
    dtype = getattr(torch, "float32" if request.dtype == "int8" else request.dtype)
    with _without_progress_bar():
        model, report = _from_folder(
            auto_class,
            request,
            config=config,
            dtype=dtype,
            use_safetensors=None if request.allow_pickle else True,
            output_loading_info=True,
        )
    _check_complete(request, report["missing_keys"], unused)
    return model.to(request.device).eval()


def max_length_of(request: LoadRequest, tokenizer: Any, config: Any, positions: int | None) -> int:
    """Maximum tokens per row, special tokens included: as requested, else the model's limit.

    `positions` are those of its learned table, see `learned_positions`.

    Raises:
        ModelError: more than the model has positions, or too few for its special tokens.
    """
    stated = [
        getattr(tokenizer, "model_max_length", None),
        positions or getattr(config, "max_position_embeddings", None),
        _sentence_transformers_limit(request.model_path),
    ]
    # transformers writes int(1e30) for "none stated"
    known = [n for n in stated if n is not None and 0 < n < 1e9]
    wanted = request.max_length or (min(known) if known else DEFAULT_MAX_LENGTH)
    if positions is not None and wanted > positions:
        raise ModelError(
            f"max-length {wanted} is more than the {positions} positions of {request.model_path}"
        )
    special = tokenizer.num_special_tokens_to_add(pair=False)
    if wanted <= special:
        raise ModelError(f"max-length {wanted} leaves no room beside {special} special tokens")
    return int(wanted)


def read_json(folder: str | Path, name: str) -> Any:
    """A JSON file of the model's folder; None where there is none.

    Raises:
        ModelError: the file is not JSON.
    """
    path = Path(folder) / name
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error


def _from_folder(auto_class: Any, request: LoadRequest, **options: Any) -> Any:
    try:
        return auto_class.from_pretrained(
            request.model_path,
            local_files_only=True,
            trust_remote_code=request.trust_remote_code,
            **options,
        )
    except Exception as error:
        # transformers raises OSError, ValueError, KeyError, ImportError and its backends' own
        # classes for a folder that it cannot use; out of memory is not about the folder
        from workers.devices.device import is_out_of_memory

        if is_out_of_memory(error):
            raise
        raise ModelError(f"{request.model_path} cannot be loaded: {error}") from error


def _check_complete(request: LoadRequest, missing: Iterable[str], unused: tuple[str, ...]) -> None:
    lacking = sorted(key for key in missing if not any(part in key for part in unused))
    if lacking:
        raise ModelError(
            f"{request.model_path} lacks weights of its own architecture, which would be random: "
            f"{', '.join(lacking[:5])}{', …' if len(lacking) > 5 else ''}"
        )


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """A worker's log is no terminal."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def learned_positions(model: Any) -> int | None:
    """Rows that fit a learned position table; None where positions are computed."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            # fairseq's families begin to count after the padding token
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings) - skipped
    return None


def _sentence_transformers_limit(folder: str) -> int | None:
    settings = read_json(folder, "sentence_bert_config.json") or {}
    limit = settings.get("max_seq_length")
    return int(limit) if limit else None
