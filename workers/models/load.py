"""Tokenizer, configuration and weights from a local folder, with the refusals made early and clear.

Nothing here reaches for the network: the folder was resolved before (`workers.models.fetch`).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headrace.process.numbers import plural
from headrace.tasks.contract import LoadRequest
from headrace.tasks.length_limit import stated_limit
from headrace.tasks.tokenizer_files import FEWEST, WITHOUT_VOCABULARY, check_tokenizer_files
from headrace.tasks.weight_files import ADAPTER, BUFFER, LAYER, OTHER_PURPOSE, SCALE, TABLE
from schemas.errors import MissingExtra, ModelError

log = logging.getLogger(__name__)

# What a model may be given of a row; a family that needs more would be given half of it.
PASSED_ON = frozenset({"input_ids", "token_type_ids", "attention_mask"})


def load_config(request: LoadRequest) -> Any:
    """The model's configuration.

    Raises:
        ModelError: the folder has none, or it names a kind of model that transformers lacks.
    """
    from transformers import AutoConfig

    if not (Path(request.model_path) / "config.json").is_file():
        raise ModelError(f"{request.model_path} holds no config.json: it is not a model's folder")
    config = _from_folder(AutoConfig, request)
    if getattr(config, "id2label", None):
        config.id2label = {number: str(label) for number, label in config.id2label.items()}
    return config


def text_config_of(config: Any) -> Any:
    """The configuration of the part that reads text, of a model of several; else itself."""
    try:
        return config.get_text_config()
    except (AttributeError, ValueError):  # not transformers' own, or two that read text
        return config


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
        ModelError: it gives more or fewer, and they would be called by others' names; or one of
            them has no name.
    """
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise ModelError(
            f"{request.model_path} numbers its labels {', '.join(map(str, config.id2label))} "
            f"(id2label), not from 0 to {config.num_labels - 1}"
        )
    if width != config.num_labels:
        raise ModelError(
            f"{request.model_path} gives {width} numbers and names {config.num_labels} labels"
        )


def load_tokenizer(request: LoadRequest) -> Any:
    """The model's tokenizer, of the Rust library or written in Python.

    Raises:
        ModelError: there is none in the folder, or it cannot be loaded.
        MissingExtra: it needs a package that is not installed.
    """
    from transformers import AutoTokenizer

    folder = Path(request.model_path)
    names = [path.name for path in folder.iterdir()]
    settings = read_json(folder, "tokenizer_config.json") or {}
    config = read_json(folder, "config.json") or {}
    check_tokenizer_files(names, config, settings, request.model_path)
    if _is_sentencepiece_only(names) and find_spec("sentencepiece") is None:
        raise MissingExtra(
            f"{request.model_path} has a SentencePiece tokenizer only, and sentencepiece is not "
            "installed: pip install 'headrace[model]'"
        )
    return _from_folder(AutoTokenizer, request)


def _is_sentencepiece_only(names: Iterable[str]) -> bool:
    return "tokenizer.json" not in names and any(n.endswith((".model", ".spm")) for n in names)


def check_vocabulary(request: LoadRequest, tokenizer: Any, config: Any) -> None:
    """Refuse a tokenizer that cannot be this model's: it knows hardly any of its tokens, or more.

    Raises:
        ModelError: see there.
    """
    rows = getattr(text_config_of(config), "vocab_size", None)
    # tokenizers of letters and bytes count what they could read
    if not rows or type(tokenizer).__name__.removesuffix("Fast") in WITHOUT_VOCABULARY:
        return
    pieces = tokenizer.vocab_size  # without what was added to it
    # those in Python count in ways of their own
    if (tokenizer.is_fast and pieces > rows) or len(tokenizer) < FEWEST * rows:
        raise ModelError(
            f"{request.model_path}: its tokenizer has {len(tokenizer):,} tokens and the model "
            f"{rows:,} (vocab_size): it is another model's tokenizer"
        )


def check_inputs(request: LoadRequest, tokenizer: Any, accepts: Collection[str]) -> None:
    """Refuse a model that reads more of a row than its tokens (boxes, shapes of letters).

    Raises:
        ModelError: the tokenizer makes what headrace does not pass on.
    """
    made = set(tokenizer.model_input_names)
    if not tokenizer.is_fast:
        try:
            made.update(tokenizer("a"))  # RoCBert makes more than it names
        except Exception as error:  # TAPAS wants a table, LayoutLM words and their boxes
            raise ModelError(
                f"{request.model_path} does not read plain text: {type(error).__name__}: {error}"
            ) from error
    more = sorted(made.intersection(accepts) - PASSED_ON)
    if more:
        raise ModelError(
            f"{request.model_path} reads {', '.join(more)} beside the tokens of a text, which "
            "headrace does not pass on"
        )


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
            ignore_mismatched_sizes=True,  # refused below, in words
        )
    _check_sizes(request, report["mismatched_keys"], unused)
    _check_complete(request, report["missing_keys"], unused)
    _check_scales(request, report["unexpected_keys"])
    _say_unused(request, report["unexpected_keys"])
    check_numbers(request, model, unused)
    return model.to(request.device).eval()


def max_length_of(request: LoadRequest, tokenizer: Any, positions: int | None) -> int:
    """Maximum tokens per row, special tokens included: as requested, else the model's limit.

    `positions` are those of its learned table, see `learned_positions`.

    Raises:
        ModelError: more than the model has positions, too few for its special tokens, or no limit
            stated anywhere.
    """
    limit = stated_limit(
        read_json(request.model_path, "config.json") or {},
        {"model_max_length": getattr(tokenizer, "model_max_length", None)},
        read_json(request.model_path, "sentence_bert_config.json") or {},
        positions,
    )
    if request.max_length is None and limit is None:
        raise ModelError(
            f"{request.model_path} states no limit of tokens a row, neither in config.json nor in "
            "its tokenizer: give one with --max-length"
        )
    wanted = request.max_length or (limit.tokens if limit else 0)
    if positions is not None and wanted > positions:
        raise ModelError(
            f"max-length {wanted} is more than the {positions} positions of {request.model_path}"
        )
    try:
        special = tokenizer.num_special_tokens_to_add(pair=False)
    except Exception as error:  # TAPAS wants a table beside the text
        raise ModelError(
            f"{request.model_path} does not read plain text: {type(error).__name__}: {error}"
        ) from error
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


def _check_scales(request: LoadRequest, unexpected: Iterable[str]) -> None:
    """Refuse quantized weights that were loaded without what makes numbers of them."""
    scales = sorted(filter(SCALE.search, unexpected))
    if scales:
        raise ModelError(
            f"{request.model_path} has quantized weights, and transformers does not use their scales: "
            f"{_few(scales)}; take the checkpoint that is not quantized"
        )


def _say_unused(request: LoadRequest, unexpected: Iterable[str]) -> None:
    """Log weights that do not run and might be meant to; those of other heads are usual."""
    unexpected = {name for name in unexpected if not BUFFER.search(name)}
    adapters = sorted(filter(ADAPTER.search, unexpected))
    left_out = sorted(name for name in unexpected if LAYER.match(name) and name not in adapters)
    others = {n for n in unexpected if not LAYER.match(n) and not OTHER_PURPOSE.search(n)}
    for names, words in (
        (adapters, "of an adapter that is not merged"),
        (left_out, "of layers that its config.json leaves out"),
        (sorted(others.difference(adapters)), "that its architecture does not have"),
    ):
        if names:
            said = (
                f"has {plural(len(names), 'weight')} {words}, and which do not run: {_few(names)}"
            )
            log.warning("%s %s", request.model_path, said)
            request.warn(f"the model's folder {said}")


def check_numbers(request: LoadRequest, model: Any, unused: tuple[str, ...]) -> None:
    """Refuse weights that are NaN or infinite, where each row would get it.

    A table of tokens may hold some: only rows with these tokens end as `not_finite`.

    Raises:
        ModelError: there are some.
    """
    import torch

    bad, count = [], 0
    unread = dict(_unread_rows(model))
    for name, weights in model.named_parameters():
        weights = weights[unread.get(name, 0) :] if name in unread else weights
        if not weights.is_floating_point() or weights.is_meta or weights.element_size() < 2:
            continue  # numbers of 8 bits have no sum in torch
        count += 1
        is_used = not TABLE.search(name) and not any(part in name for part in unused)
        # a sum finds them in one pass without a copy; it may also be too large without any
        suspect = is_used and not math.isfinite(weights.detach().sum(dtype=torch.float32).item())
        if suspect and not weights.detach().isfinite().all():
            bad.append(name)
    if bad:
        raise ModelError(
            f"{request.model_path}: its weights hold NaN or infinity in {len(bad)} of {count} tensors "
            f"({_few(bad)}): no row would have an answer; the training that made them failed, take an "
            "earlier checkpoint"
        )


def _unread_rows(model: Any) -> Iterator[tuple[str, int]]:
    """Names of position tables, and how many of their first rows no token reads, padding included."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None):
            yield f"{name}.weight", int(module.padding_idx)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _check_sizes(
    request: LoadRequest,
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]],
    unused: tuple[str, ...],
) -> None:
    wrong = sorted(it for it in mismatched if not any(part in it[0] for part in unused))
    if wrong:
        name, found, wanted = wrong[0]
        raise ModelError(
            f"{request.model_path}: its weights do not fit its config.json: {name} is "
            f"{list(found)}, and the configuration makes it {list(wanted)}"
            + (f"; {len(wrong) - 1} more" if len(wrong) > 1 else "")
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
