"""Finds problems in a model's files before anything is queued. No torch.

A worker would find them when it loads the model, but only after every chunk of the job had failed
once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.tasks.length_limit import LengthLimit, stated_limit
from headrace.tasks.tokenizer_files import FEWEST, check_tokenizer_files
from headrace.tasks.weight_files import missing_shards
from producers.models.model_files import ModelFiles, read_json
from producers.models.quantized import check_floats
from producers.models.safetensors_header import Shapes, read_header
from schemas.errors import ModelError

WHOLE, PICKLED = "model.safetensors", "pytorch_model.bin"
"""Names under which transformers looks for weights, and for an index of their shards."""
POINTER = b"version https://git-lfs"
"""First bytes of a file that git-lfs has not fetched."""
POINTER_BYTES = 1024  # required: pointer files of git-lfs are smaller
CLASSIFIER = re.compile(
    r"classif|score|logits|summary|head|out_proj|predict|final_layer", re.IGNORECASE
)
HEADS: Mapping[str, re.Pattern[str]] = {
    "ForSequenceClassification": CLASSIFIER,
    "ForTokenClassification": CLASSIFIER,
    "ForQuestionAnswering": re.compile(r"qa_|answer_|start_logits"),
}
"""In the names of weights of heads, with all families of transformers 5.23 (read), by what the
architecture ends with. A head over the vocabulary may be the table of tokens itself."""
LAST_LAYER = re.compile(
    r"(^|\.)(classifier|score|logits_proj|classifier\.linear_out|classifier\.out_proj"
    r"|classifier\.dense2|sequence_summary\.summary"
    r"|classification_head\.out_proj|classification_head\.1|out_proj)\.weight$"
)
"""Weights whose first extent is the number of labels."""
POSITIONS = re.compile(r"(^|\.)position_embeddings\.weight$")
PADDING_FIRST = frozenset(
    {
        "roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "longformer",
        "mpnet", "data2vec-text", "ibert", "xmod", "luke", "markuplm", "lilt", "layoutlmv3", "esm",
    }
)  # fmt: skip
"""Families whose positions start after the padding token's id, as in fairseq."""
FEW = 0.98
"""If a tokenizer has less than this share of the model's tokens, it may belong to another model."""


def check_files(files: ModelFiles, allow_pickle: bool) -> None:
    """Check that the folder has all weights, in files that may be loaded.

    Raises:
        ModelError: none, only pickled ones, none under a name that is looked for, a shard that is
            missing.
    """
    top = [name for name in files.sizes() if "/" not in name]
    named = read_json(files, "config.json").get("transformers_weights")
    if named is not None and named not in top:
        raise ModelError(f"model {files.where}: {named}, which config.json names, is not there")
    if named is not None:
        return
    if WHOLE in top or f"{WHOLE}.index.json" in top:
        _check_shards(files, top, WHOLE)
    elif allow_pickle and (PICKLED in top or f"{PICKLED}.index.json" in top):
        _check_shards(files, top, PICKLED)
    else:
        raise ModelError(f"model {files.where} {_no_weights(top, allow_pickle)}")


def _no_weights(top: list[str], allow_pickle: bool) -> str:
    tensors, pickles = ([n for n in top if n.endswith(e)] for e in (".safetensors", ".bin"))
    if pickles and not tensors and not allow_pickle:
        return (
            "has its weights as pickle only, which can run code: convert them to safetensors, or "
            "set --allow-pickle where you trust it"
        )
    there, name = (tensors, WHOLE) if tensors else (pickles, PICKLED)
    if not there:
        return "has no weights: no *.safetensors beside config.json"
    return (
        f"has weights in {', '.join(sorted(there)[:3])}, and neither {name} nor {name}.index.json, "
        "which says what is in them; copy it from where they are from"
    )


def check_pointers(files: ModelFiles) -> None:
    """Check that git-lfs has fetched all files.

    Raises:
        ModelError: one of them is a pointer.
    """
    for name, size in files.sizes().items():
        if size <= POINTER_BYTES and _is_pointer(files, name):
            raise ModelError(
                f"model {files.where}: {name} is a git-lfs pointer, not the file itself; fetch it "
                "with git lfs pull"
            )


def _is_pointer(files: ModelFiles, name: str) -> bool:
    with files.open(name) as file:
        return bytes(file.read(len(POINTER))) == POINTER


def _check_shards(files: ModelFiles, names: list[str], whole: str) -> None:
    if whole in names:
        return  # which transformers takes first
    index = f"{whole}.index.json"
    found = read_json(files, index)
    missing = missing_shards(found, names)
    if missing:
        wanted = len(missing_shards(found, ()))
        raise ModelError(
            f"model {files.where} lacks {len(missing)} of {wanted} files of weights that "
            f"{index} names: {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
        )


def read_shapes(files: ModelFiles) -> Shapes:
    """The shapes of all tensors beside config.json; empty where the weights are pickled.

    Raises:
        ModelError: a safetensors file that is damaged or cut short, or whose weights are whole
            numbers that nothing turns into others.
    """
    config = read_json(files, "config.json")
    found: dict[str, tuple[int, ...]] = {}
    for name, size in files.sizes().items():
        if name.endswith(".safetensors") and "/" not in name:
            with files.open(name) as file:
                header = read_header(file)
            if header is None:
                raise ModelError(f"model {files.where}: {name} is damaged: it has no sound header")
            if size < header.bytes_needed:
                raise ModelError(
                    f"model {files.where}: {name} is cut short: it has {size:,} bytes of "
                    f"{header.bytes_needed:,}; copy it again"
                )
            check_floats(header.not_floats, config, files.where)
            found |= header.shapes
    return found


def check_head_weights(
    shapes: Shapes, config: Mapping[str, Any], task: str, head: str, where: str
) -> None:
    """Check that the weights have the head, and as many rows in it as there are labels, if any.

    `head` is what the architecture ends with. Says nothing of weights whose names are not known.

    Raises:
        ModelError: no head, or labels that do not fit it.
    """
    if not shapes or head not in HEADS:
        return
    if not any(HEADS[head].search(name) for name in shapes):
        raise ModelError(
            f"model {where} has no head for {task} among its weights: it would be random; train "
            "one, or take a model that was trained for this"
        )
    if HEADS[head] is CLASSIFIER:
        _check_labels(shapes, config, where)


def _check_labels(shapes: Shapes, config: Mapping[str, Any], where: str) -> None:
    wanted = label_count(config)
    heads = {
        name: shape for name, shape in shapes.items() if LAST_LAYER.search(name) and len(shape) == 2
    }
    plain = {n: s for n, s in heads.items() if "attention" not in n and ".layer" not in n}
    if plain and not any(shape[0] == wanted for shape in plain.values()):
        name, shape = next(iter(plain.items()))
        raise ModelError(
            f"model {where}: its configuration has {wanted} labels (id2label), and its head "
            f"{name} has {shape[0]}; put right config.json"
        )


def label_count(config: Mapping[str, Any]) -> int:
    """Number of labels in a configuration; two if it names none, as in transformers."""
    names = config.get("id2label")
    if isinstance(names, Mapping) and names:
        return len(names)
    given = config.get("num_labels", config.get("_num_labels"))
    return given if isinstance(given, int) else 2


def check_max_length(
    max_length: int | None, limit: LengthLimit | None, positions: int | None, where: str
) -> None:
    """Check that the tokens per row are limited, and that the model has as many positions.

    Raises:
        ModelError: it has too few, or neither the job nor the model states a limit.
    """
    if max_length is None and limit is None:
        raise ModelError(
            f"model {where} states no limit of tokens a row, neither in config.json nor in "
            "tokenizer_config.json: give one with --max-length"
        )
    if max_length is not None and positions is not None and max_length > positions:
        raise ModelError(
            f"--max-length {max_length} is more than the {positions} positions of model {where}"
        )


def check_room(
    max_length: int | None, limit: LengthLimit | None, tokenizer: Mapping[str, Any], where: str
) -> None:
    """Check that a row has room for more than its special tokens.

    `tokenizer` is the content of tokenizer.json; a tokenizer written in Python is checked by a
    worker.

    Raises:
        ModelError: it has not.
    """
    special = special_tokens(tokenizer.get("post_processor"))
    if max_length is not None and max_length <= special:
        raise ModelError(
            f"--max-length {max_length} leaves no room beside {special} special tokens"
        )
    if max_length is None and limit is not None and limit.tokens <= special:
        raise ModelError(
            f"model {where}: {limit.said_by} says {limit.tokens}, which leaves no room beside "
            f"{special} special tokens; put it right, or give --max-length"
        )


def special_tokens(processor: Any) -> int:
    """Number of tokens that the post-processor in tokenizer.json adds to a single row.

    Source: https://huggingface.co/docs/tokenizers/api/post-processors
    """
    if not isinstance(processor, Mapping):
        return 0
    kind = processor.get("type")
    if kind in ("BertProcessing", "RobertaProcessing"):
        return 2
    if kind == "Sequence":
        return sum(special_tokens(inner) for inner in processor.get("processors") or ())
    known = processor.get("special_tokens") or {}
    names = [
        piece["SpecialToken"].get("id")
        for piece in processor.get("single") or ()
        if isinstance(piece, Mapping) and isinstance(piece.get("SpecialToken"), Mapping)
    ]
    return sum(len((known.get(name) or {}).get("ids") or (0,)) for name in names)


def limit_of(
    files: ModelFiles, config: Mapping[str, Any], positions: int | None
) -> LengthLimit | None:
    """The limit of tokens per row that the files state, if any."""
    return stated_limit(
        config,
        read_json(files, "tokenizer_config.json"),
        read_json(files, "sentence_bert_config.json"),
        positions,
    )


def position_rows(shapes: Shapes, config: Mapping[str, Any]) -> int | None:
    """Number of tokens that the learned position table supports; None without such a table."""
    tables = [s[0] for n, s in shapes.items() if POSITIONS.search(n) and len(s) == 2]
    if not tables:
        return None
    padding = _padding_position(config)
    return min(tables) - (0 if padding is None else padding + 1)


def unread_positions(config: Mapping[str, Any]) -> int:
    """Rows at the beginning of a position table that no token reads, those of padding included.

    The row of the padding token itself is read, by padding and by such a token in a text.
    """
    return _padding_position(config) or 0


def _padding_position(config: Mapping[str, Any]) -> int | None:
    """The position of padding tokens, of a family that begins to count after it."""
    padding = config.get("pad_token_id")
    is_first = config.get("model_type") in PADDING_FIRST
    return padding if is_first and isinstance(padding, int) else None


def check_tokenizer(files: ModelFiles, config: Mapping[str, Any]) -> Iterator[str]:
    """Warnings about the tokenizer.

    Raises:
        ModelError: there is none, or its vocabulary is another model's.
    """
    settings = read_json(files, "tokenizer_config.json")
    check_tokenizer_files(list(files.sizes()), config, settings, files.where)
    rows = vocabulary_rows(config)
    sizes = vocabulary_size(read_json(files, "tokenizer.json"))
    if rows is None or sizes is None:
        return
    pieces, all_tokens = sizes
    said = f"its tokenizer has {all_tokens:,} tokens and the model {rows:,} (vocab_size)"
    if pieces > rows or all_tokens < FEWEST * rows:
        raise ModelError(f"model {files.where}: {said}: it is another model's tokenizer")
    if all_tokens < FEW * rows:
        yield f"model {files.where}: {said}; is it this model's?"


def vocabulary_rows(config: Mapping[str, Any]) -> int | None:
    """Vocabulary size of the model's text part."""
    for part in (config, config.get("text_config"), config.get("text_encoder")):
        if isinstance(part, Mapping) and isinstance(part.get("vocab_size"), int):
            return int(part["vocab_size"])
    return None


def vocabulary_size(tokenizer: Mapping[str, Any]) -> tuple[int, int] | None:
    """Of a tokenizer.json: the largest id that a text can get plus 1, and the number of all tokens."""
    model = tokenizer.get("model")
    pieces = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(pieces, Mapping):
        ids = [v for v in pieces.values() if isinstance(v, int)]
    elif isinstance(pieces, list):  # Unigram: pieces with their scores, in order
        ids = list(range(len(pieces)))
    else:
        return None
    if not ids:
        return None
    added = {a.get("id") for a in tokenizer.get("added_tokens") or () if isinstance(a, Mapping)}
    return max(ids) + 1, len(added.union(ids))


def check_remote_code(config: Mapping[str, Any], trusted: bool, where: str) -> None:
    """Check that the model needs no code from its folder, unless that is allowed.

    Raises:
        ModelError: it is, and `--trust-remote-code` is not set.
    """
    if trusted or not isinstance(config.get("auto_map"), Mapping):
        return
    if "AutoConfig" in config["auto_map"] and not _is_known(str(config.get("model_type"))):
        raise ModelError(
            f"model {where} is code in its own folder (auto_map in config.json), which is not run: "
            "set --trust-remote-code where you trust it, here and for the workers"
        )


def _is_known(model_type: str) -> bool:
    """Whether transformers supports this type of model; true if that cannot be found out."""
    try:
        # 4 s, and only for folders with code in them
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    except Exception:
        return True
    return model_type in CONFIG_MAPPING_NAMES
