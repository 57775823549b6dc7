"""A transformer in a folder of its own, `0_Transformer`, as sentence-transformers once saved it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headrace.storage.local import LocalStore
from headrace.tasks.contract import LoadRequest
from headrace.tasks.model_digest import folder_digest
from producers.models.reference import resolve_model
from schemas.errors import ModelError
from tests.unit.tasks.sentence_folder import Edit, copies, module, write
from tests.unit.tiny_models import TinyModels, answers
from workers.tasks.feature_extraction import FeatureExtraction

TEXTS = ["", "the", "The WEATHER is fine today", "very long text of all kinds. " * 40]
INNER = "0_Transformer"


def to_inner(folder: Path) -> None:
    """Move the transformer's files, and let it have settings of its own."""
    inner = folder / INNER
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name != "modules.json":
            path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = INNER
    write(folder, "modules.json", modules)
    write(
        folder, f"{INNER}/sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": True}
    )


@pytest.fixture
def make(tiny: TinyModels, tmp_path: Path) -> Callable[[Edit | None], Path]:
    return copies(tiny, tmp_path)


def resolve(folder: Path) -> object:
    return resolve_model(str(folder), None, "feature-extraction", LocalStore, params={})


def test_it_is_planned_and_answered_as_the_library_does(make: Callable[[Edit], Path]) -> None:
    from sentence_transformers import SentenceTransformer

    folder = make(to_inner)
    info = resolve_model(str(folder), None, "feature-extraction", LocalStore, params={})
    assert info.ref.revision == folder_digest(folder)
    assert info.limit is not None
    assert (info.limit.tokens, info.parameters is not None) == (20, True)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    task = FeatureExtraction()
    task.load(LoadRequest(str(folder), "cpu", "float32", None, {}))
    assert task.max_length == 20
    found = np.array([row["embedding"] for row in answers(task, TEXTS)])
    assert found == pytest.approx(np.asarray(theirs.encode(TEXTS, batch_size=1)), abs=2e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", "0_Transformer is a folder without config.json"),
        ("model.safetensors", "0_Transformer has no weights"),
        ("tokenizer.json", "0_Transformer has no tokenizer files"),
    ],
)
def test_what_it_lacks_is_found_at_submission(
    name: str, words: str, make: Callable[[Edit], Path]
) -> None:
    folder = make(to_inner)
    (folder / INNER / name).unlink()
    if name != "config.json":  # beside modules.json they are of no use
        (folder / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=words):
        resolve(folder)


def test_an_adapter_in_it_is_refused(make: Callable[[Edit], Path]) -> None:
    folder = make(to_inner)
    write(folder, f"{INNER}/adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(ModelError, match=f"an adapter \\({INNER}/adapter_config.json\\)"):
        resolve(folder)


@pytest.mark.parametrize("pickled", [False, True])
def test_a_module_without_weights_is_refused_at_submission(
    pickled: bool, make: Callable[[Edit], Path]
) -> None:
    folder = make(module("Dense", "2_Dense", {"in_features": 32, "out_features": 12}))
    if pickled:
        (folder / "2_Dense/pytorch_model.bin").write_bytes(b"pickle")
    words = "its pickle needs --allow-pickle" if pickled else "2_Dense, a Dense module, has no"
    with pytest.raises(ModelError, match=words):
        resolve(folder)
