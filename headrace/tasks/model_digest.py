"""The digest of a model's folder, over the files that decide its predictions and no others.

The producer pins a local model by it. The worker checks by it that the model it is about to load
is the planned one. Pure hashing; no torch, no transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import ModelError

# Weights, configuration, tokenizers, and code that trust_remote_code would run.
DECIDING_SUFFIXES = frozenset(
    {
        ".json", ".safetensors", ".bin", ".txt", ".model", ".jinja", ".py", ".spm", ".tiktoken",
        ".codes", ".bpe", ".tokenizer",
    }
)  # fmt: skip
# Files found in model folders that do not change the predictions.
IGNORED_NAMES = frozenset({"trainer_state.json", "all_results.json", "train_results.json"})
IGNORED_FOLDERS = frozenset({"onnx", "openvino", "coreml", "runs", "checkpoints"})
# Chosen: big enough that reading and hashing, not calls, take the time.
BLOCK_BYTES = 1 << 20


def folder_digest(folder: str | Path) -> str:
    """`sha256:` and 64 hex characters, from the names and content of the files that count.

    Names are relative with `/` between parts, in byte order, so that a copy elsewhere has the same
    digest. Hidden files and folders are left out.

    Raises:
        ModelError: the folder is missing or has no config.json, or a file cannot be read.
    """
    root = Path(folder)
    try:
        names = sorted(deciding_names(root))
        if "config.json" not in names and "modules.json" not in names:
            raise ModelError(f"{root} is not a model's folder: it holds no config.json")
        whole = hashlib.sha256()
        for name in names:
            # each file's digest has a fixed length, so that no content can pass for a name
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0")
            whole.update(_file_digest(root / name))
    except OSError as error:
        raise ModelError(f"{root} cannot be read: {error}") from error
    return f"sha256:{whole.hexdigest()}"


def deciding_names(root: Path, below: str = "") -> Iterator[str]:
    """Names of the files that decide a model's predictions, relative to its folder, unordered."""
    for entry in (root / below).iterdir():
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.name not in IGNORED_FOLDERS:
                yield from deciding_names(root, name)
        elif entry.suffix in DECIDING_SUFFIXES and entry.name not in IGNORED_NAMES:
            yield name


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.digest()
