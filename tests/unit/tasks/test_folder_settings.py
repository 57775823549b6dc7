"""Each setting of a model's folder, beside the library that reads it: applied, refused, no effect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headrace.storage.local import LocalStore
from headrace.tasks import folder_settings as table
from headrace.tasks.folder_settings import SETTINGS, FolderSetting
from producers.models.reference import resolve_model
from schemas.errors import ConfigError, ModelError
from tests.unit.tasks.folder_edits import (
    BESIDE,
    NORM,
    PROMPT,
    VECTORS,
    Make,
    dense,
    in_tokenizer_json,
    noise,
    ours,
    pooled,
    theirs,
)
from tests.unit.tasks.sentence_folder import WIDTH, Edit, both, copies, module, setting, write
from tests.unit.tasks.test_folder_settings_of_scores import (
    CROSS,
    IDENTITY,
    PIPELINE,
)
from tests.unit.tiny_models import TinyModels


@pytest.fixture
def make(tiny: TinyModels, tmp_path: Path) -> Make:
    return copies(tiny, tmp_path)


def row_of(file: str, key: str) -> FolderSetting:
    (found,) = [row for row in SETTINGS if (row.file, row.key) == (file, key)]
    return found


@pytest.mark.parametrize(("file", "key"), [k for k in VECTORS if row_of(*k).effect == "applied"])
def test_an_applied_setting_gives_the_librarys_vectors(file: str, key: str, make: Make) -> None:
    if file == table.TOKENIZER or key == "do_lower_case":
        plain, edited = both_cases(key, make)
    else:
        plain, edited = make(None), make(VECTORS[file, key])
    expected = theirs(edited)
    found = ours(edited)
    assert found == pytest.approx(expected, abs=2e-5)
    before = theirs(plain)
    assert before.shape != expected.shape or np.abs(before - expected).max() > 1e-3, "shows nothing"


def both_cases(key: str, make: Make) -> tuple[Path, Path]:
    """Folders in which such a setting shows: a tokenizer that tells capitals, short rows."""
    edit = VECTORS[table.BERT if key == "do_lower_case" else table.TOKENIZER, key]
    if key == "do_lower_case":
        keeps = in_tokenizer_json(normalizer=None)
        return make(keeps), make(both(keeps, edit))
    short = setting(table.TOKENIZER, model_max_length=40)
    return make(short), make(both(short, edit))


@pytest.mark.parametrize(
    ("file", "key"), [k for k in VECTORS if row_of(*k).effect == "no effect"]
)  # fmt: skip
def test_a_setting_without_effect_has_none_in_the_library_either(
    file: str, key: str, make: Make
) -> None:
    plain, edited = make(None), make(VECTORS[file, key])
    expected = theirs(plain)
    assert theirs(edited) == pytest.approx(expected, abs=1e-6)
    assert ours(edited) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("file", "key"), [k for k in VECTORS if row_of(*k).effect == "refused"])
def test_a_refused_setting_is_named(file: str, key: str, make: Make) -> None:
    with pytest.raises(ModelError, match=key if key != "(all)" else file):
        ours(make(VECTORS[file, key]))


@pytest.mark.parametrize(("file", "key"), BESIDE)
def test_the_weights_of_a_module_say_what_its_sizes_say(file: str, key: str, make: Make) -> None:
    for edit in BESIDE[file, key]:
        folder = make(edit)
        assert ours(folder) == pytest.approx(theirs(folder), abs=2e-5)


def test_every_row_of_the_table_is_compared() -> None:
    compared = {*VECTORS, *BESIDE, *CROSS, *((table.CONFIG, key) for key in PIPELINE)}
    compared.add((table.SENTENCE, "keep_in_fp32_modules"))
    # in test_ranking_and_sparse
    splade = (
        "pooling_strategy",
        "activation_function",
        "embedding_dimension",
        "word_embedding_dimension",
    )
    compared |= {(table.SPLADE, key) for key in splade}
    assert {(row.file, row.key) for row in SETTINGS} == compared


# -- beside the table


@pytest.mark.parametrize("name", [table.SENTENCE, table.BERT, "1_Pooling/config.json"])
def test_a_setting_that_is_not_in_the_table_is_refused(name: str, make: Make) -> None:
    with pytest.raises(ModelError, match="brand_new"):
        ours(make(setting(name, brand_new=1)))
    ours(make(setting(name, brand_new=None)))


def test_without_a_list_of_modules_no_file_of_theirs_counts(make: Make) -> None:
    folder = make(both(PROMPT, setting(table.BERT, do_lower_case=True)))
    (folder / table.MODULES).unlink()
    assert ours(folder) == pytest.approx(theirs(folder), abs=2e-5)


@pytest.mark.parametrize(
    "edit",
    [
        module("WordWeights", "2_Weights", {}),
        module("their_code.Pooling", "2_Own", {}),
        module("Dense", "0_Dense", {}, at=1),
        module("Pooling", "2_Pooling", {}),
    ],
)
def test_a_module_that_headrace_lacks_or_in_another_place_is_refused(
    edit: Edit, make: Make
) -> None:
    with pytest.raises(ModelError, match="sets type"):
        ours(make(edit))


def test_a_pooling_that_is_named_leaves_out_what_was_trained_on_another(make: Make) -> None:
    plain, folder = make(None), make(both(dense(), module("WordWeights", "3_Weights", {})))
    assert ours(folder, pooling="mean") == pytest.approx(theirs(plain), abs=2e-5)


def test_prompts_are_named_or_left_out(make: Make) -> None:
    folder = make(PROMPT)
    assert ours(folder, prompt_name="passage") == pytest.approx(
        theirs(folder, prompt_name="passage"), abs=2e-5
    )
    assert ours(folder, prompt_name="none") == pytest.approx(theirs(folder, prompt=""), abs=2e-5)
    with pytest.raises(ConfigError, match="has query, passage"):
        ours(folder, prompt_name="document")


def test_a_width_that_is_asked_for_is_cut_before_vectors_are_scaled(make: Make) -> None:
    folder = make(None)
    expected = theirs(folder, truncate_dim=8, normalize_embeddings=True)
    assert ours(folder, truncate_dim=8, normalize=True) == pytest.approx(expected, abs=2e-5)
    for dim, why in ((64, "32 numbers"), (0, "at least one")):
        with pytest.raises(ConfigError, match=why):
            ours(folder, truncate_dim=dim)


@pytest.mark.parametrize(
    "mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
)
@pytest.mark.parametrize("included", [True, False])
def test_every_pooling_with_and_without_the_prompt(mode: str, included: bool, make: Make) -> None:
    folder = make(both(PROMPT, pooled(pooling_mode=mode, include_prompt=included)))
    assert ours(folder) == pytest.approx(theirs(folder), abs=2e-5)


@pytest.mark.parametrize("tie", [True, False])
def test_only_the_encoder_of_t5_is_loaded(tie: bool, tmp_path: Path) -> None:
    """sentence-t5 and gtr: a T5, the mean of its encoder's states, a Dense without bias."""
    from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

    from tests.unit.tasks.sentence_folder import make_folder
    from tests.unit.tiny_models import VOCABULARY, save_tokenizer

    config = T5Config(
        vocab_size=len(VOCABULARY), d_model=WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        pad_token_id=0, decoder_start_token_id=0, n_positions=512,
    )  # fmt: skip
    torch.manual_seed(7)
    kind = T5EncoderModel if tie else T5ForConditionalGeneration
    kind(config).eval().save_pretrained(tmp_path / "t5")
    save_tokenizer(tmp_path / "t5", types=False)
    folder = make_folder(str(tmp_path / "t5"), tmp_path / "sentence-t5")
    both(
        module("Dense", "2_Dense",
               {"in_features": WIDTH, "out_features": 12, "bias": False,
                "activation_function": IDENTITY}, linear__weight=noise(12, WIDTH)),
        module("Normalize", "3_Normalize", {}),
    )(folder)  # fmt: skip
    assert ours(folder) == pytest.approx(theirs(folder), abs=2e-5)


def test_the_table_of_the_docs_is_this_one() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/model-folder.md").read_text()
    rows = [f"| `{row.file}` | `{row.key}` | {row.effect} | {row.how} |" for row in SETTINGS]
    shown = [line for line in page.split("\n") if line.startswith("| `")]
    assert shown == rows


# -- folders that lack a file or contradict themselves


def unlink(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (unlink("1_Pooling/config.json"), "1_Pooling/config.json, of a module.*not there"),
        (both(dense(), unlink("2_Dense/config.json")), "2_Dense/config.json, of a module"),
        (lambda folder: write(folder, table.MODULES, []), "no Pooling"),
        (lambda folder: write(folder, table.MODULES, [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}
        ]), "no Pooling"),
        (dense(out_features=4), r"weight is \[12, 32\], and its config.json says \[4, 32\]"),
        (dense(bias=False), "sets bias to False"),
        (module("LayerNorm", "2_Norm", {"dimension": 8}, **NORM), r"says \[8\]"),
    ],
)  # fmt: skip
def test_half_a_folder_is_refused_on_both_sides_and_by_the_library(
    edit: Edit, why: str, make: Make
) -> None:
    folder = make(edit)
    with pytest.raises(ModelError, match=why):
        ours(folder)
    with pytest.raises(ModelError, match=why):
        resolve_model(str(folder), None, "feature-extraction", LocalStore, params={})
    with pytest.raises(Exception):  # noqa: B017, PT011 — of whatever class
        theirs(folder)


def test_a_module_for_vectors_of_another_width_is_named(make: Make) -> None:
    narrow = {"in_features": 8, "out_features": 4, "bias": False}
    edit = module("Dense", "2_Dense", narrow, linear__weight=noise(4, 8))
    with pytest.raises(ModelError, match="takes vectors of 8 numbers, and gets 32"):
        ours(make(edit))
