"""Converts a model to CTranslate2's format, once per digest, and checks the result.

The converter of CTranslate2 4.8.5 was written for transformers 4. With transformers 5 it needs a
correction for T5's family, see `_correct_scale`. The check would find other mistakes: it compares the
log probabilities of both for the same tokens (`workers.engines.ctranslate2.agreement`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headrace.process.logs import get_logger
from headrace.tasks.model_digest import folder_digest
from schemas.errors import MissingExtra, ModelError
from workers.engines.ctranslate2.agreement import Numbers, numbers_of
from workers.engines.ctranslate2.decoding import ADVICE
from workers.engines.generating.base import GenerationRequest
from workers.models.load import load_model

log = get_logger(__name__)

MOST_DIFFERENCE = 1e-3
"""Of a token's log probability, in float32. Measured: 2e-5 where the conversion is
right, over 0.1 where a scale, a mask or a position is wrong."""
WITHOUT_NORM = frozenset({"bart", "mbart", "pegasus"})
"""Types whose converter reads `normalize_before`, which transformers 5 does not add any more."""
MBART_25 = (None, "MBartTokenizer")
"""Tokenizers, by config.json, for which the converter leaves the decoder's first token out; mBART-50
names its own."""
UNSCALED = frozenset({"mt5"})
MODEL_FILE = "model.bin"


def converted(request: GenerationRequest, cache: Path) -> Path:
    """The folder of the converted model in the job's precision; converts if there is none.

    Several processes may call it at once: one converts, the others wait.

    Raises:
        ModelError: CTranslate2 has no such family, or computes it otherwise than transformers.
        MissingExtra: it is not installed.
    """
    try:
        name = (
            f"{folder_digest(request.load.model_path).removeprefix('sha256:')[:32]}"
            f"-{request.load.dtype}-{version('ctranslate2')}-{version('transformers')}"
        )
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "--engine ctranslate2: it is not installed: pip install 'headrace[ctranslate2]'"
        ) from error
    check_family(request)
    folder = cache / name
    if not (folder / MODEL_FILE).is_file():
        try:
            with _alone(cache, name):
                if not (folder / MODEL_FILE).is_file():
                    _convert(request, folder)
        except OSError as error:
            raise ModelError(f"{request.load.model_path}: {folder}: {error}") from error
    return folder


def check_family(request: GenerationRequest) -> None:
    """Refuse model types that cannot be converted, before their weights are read.

    Raises:
        ModelError: says why, and what to use.
    """
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    config = request.config
    kind = str(getattr(config, "model_type", ""))
    why = ""
    if type(config).__name__ not in _MODEL_LOADERS:
        why = f"CTranslate2 has no converter for {kind or type(config).__name__}"
    elif kind == "m2m_100":
        why = "CTranslate2's converter reads M2M100's vocabulary in another order"
    elif kind == "mbart" and getattr(config, "tokenizer_class", None) in MBART_25:
        why = "CTranslate2 starts the answers of mBART-25 with the language alone"
    elif kind in WITHOUT_NORM and not hasattr(config, "normalize_before"):
        why = f"config.json has no normalize_before, which CTranslate2's converter of {kind} needs"
    if why:
        raise ModelError(f"{request.load.model_path}: {why}: {ADVICE}")


def vocabulary_of(folder: Path) -> list[str]:
    """The tokens of a converted model by id; an encoder and a decoder must share them.

    Raises:
        ModelError: they do not share one.
    """
    for name in ("vocabulary.json", "shared_vocabulary.json"):
        if (folder / name).is_file():
            return list(json.loads((folder / name).read_text(encoding="utf-8")))
    raise ModelError(f"{folder}: encoder and decoder have two vocabularies: {ADVICE}")


def _convert(request: GenerationRequest, folder: Path) -> None:
    """Convert in float32 and check, then convert to the job's precision; the folder is made atomically."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        wanted = numbers_of(_loaded(request), request.config)
        made = _written(request, scratch / "float32", "float32")
        found = _difference(request, wanted, made)
        log.info("model.converted", difference=float(f"{found:.1e}"))
        if not found <= MOST_DIFFERENCE:
            raise ModelError(
                f"{request.load.model_path}: converted to CTranslate2, it gives other numbers than "
                f"transformers: {found:.2g} in the logarithm of a probability: {ADVICE}"
            )
        if request.load.dtype != "float32":
            made = _written(request, scratch / "rounded", request.load.dtype)
        made.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _difference(request: GenerationRequest, wanted: Numbers, made: Path) -> float:
    try:
        return wanted.largest_difference(made, vocabulary_of(made))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{request.load.model_path}: CTranslate2 cannot compute what it converted: {error}: "
            f"{ADVICE}"
        ) from error


def _loaded(request: GenerationRequest) -> Any:
    import transformers
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    loader = _MODEL_LOADERS[type(request.config).__name__]
    kind = getattr(transformers, loader.architecture_name)
    if hasattr(loader, "get_model_class"):
        kind = loader.get_model_class(request.config, kind)
    whole = replace(request.load, device="cpu", dtype="float32")
    return load_model(whole, request.config, kind)


def _written(request: GenerationRequest, folder: Path, dtype: str) -> Path:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc, unused-ignore]
        """Reads the folder with headrace's checks; conversion destroys the loaded model."""

        def load_model(self, *_: Any, **__: Any) -> Any:
            return _loaded(request)

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return request.tokenizer

        def _load(self) -> Any:
            spec = super()._load()
            _correct_scale(spec, request.config)
            return spec

    try:
        Converter(request.load.model_path).convert(str(folder), quantization=dtype)
    except Exception as error:  # ValueError, AttributeError, KeyError and more, by family
        raise ModelError(
            f"{request.load.model_path}: CTranslate2 cannot convert it: "
            f"{type(error).__name__}: {error}: {ADVICE}"
        ) from error
    return folder


def _correct_scale(spec: Any, config: Any) -> None:
    """Scale T5's outputs only where transformers does.

    The converter asks `tie_word_embeddings`, which transformers 5 sets for every T5. So T5 1.1 and
    Flan-T5 came out with another temperature: greedy text was right, that of beams was not.
    """
    if config.model_type in UNSCALED or getattr(config, "scale_decoder_outputs", None) is False:
        from ctranslate2.specs.model_spec import OPTIONAL

        spec.decoder.scale_outputs = OPTIONAL


@contextlib.contextmanager
def _alone(cache: Path, name: str) -> Iterator[None]:
    """Hold a lock on this name, on this machine; the kernel releases it if the process dies."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
