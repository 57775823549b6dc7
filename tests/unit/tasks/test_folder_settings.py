"""Each setting of a model's folder, beside the library that reads it: applied, refused, no effect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.tasks import folder_settings as table
from headrace.tasks.contract import LoadRequest
from headrace.tasks.folder_settings import SETTINGS, FolderSetting
from schemas.errors import ConfigError, ModelError
from tests.unit.tasks.sentence_folder import WIDTH, Edit, both, copies, module, setting, write
from tests.unit.tiny_models import TinyModels, answers, save_model
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification

TEXTS = [
    "",
    "the",
    "The WEATHER is fine today, and Paris is good!",
    "very long text with words of all kinds. " * 40,
    "good film",
]
PAIRS = [("the weather", "is fine"), ("good film", "bad"), ("paris", "a very long text " * 30)]
Make = Callable[[Edit | None], Path]

_random = torch.Generator().manual_seed(3)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_random) * 0.5


def dense(**config: Any) -> Edit:
    """A Dense module that makes 12 of 32 numbers."""
    more = {"residual__weight": noise(12, WIDTH)} if config.get("use_residual") else {}
    return module(
        "Dense", "2_Dense",
        {"in_features": WIDTH, "out_features": 12, "bias": True,
         "activation_function": "torch.nn.modules.activation.Tanh"} | config,
        linear__weight=noise(12, WIDTH), linear__bias=noise(12), **more,
    )  # fmt: skip


@pytest.fixture
def make(tiny: TinyModels, tmp_path: Path) -> Make:
    return copies(tiny, tmp_path)


def ours(folder: Path, **params: Any) -> np.ndarray:
    task = FeatureExtraction()
    task.load(LoadRequest(str(folder), "cpu", "float32", None, params))
    return np.array([row["embedding"] for row in answers(task, TEXTS)])


def theirs(folder: Path, **options: Any) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return np.asarray(model.encode(TEXTS, batch_size=1, **options))


PROMPTS = {"query": "good film is: ", "passage": "one two "}
PROMPT = setting(table.SENTENCE, prompts=PROMPTS, default_prompt_name="query")
OTHER_INPUT = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
NORM = {"norm__weight": noise(WIDTH) + 1, "norm__bias": noise(WIDTH)}


def pooled(**config: Any) -> Edit:
    return setting("1_Pooling/config.json", pooling_mode_mean_tokens=None, **config)


def modules(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "modules.json"
        found = json.loads(path.read_text())
        found[1] |= changes
        path.write_text(json.dumps(found))

    return edit


def moved(folder: Path) -> None:
    (folder / "1_Pooling").rename(folder / "elsewhere")
    both(modules(path="elsewhere"), setting("elsewhere/config.json", pooling_mode="cls"))(folder)


def with_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def in_tokenizer_json(**changes: Any) -> Edit:
    return setting("tokenizer.json", **changes)


# the setting, and what changes when it does: (file, key) → edit of a folder with mean pooling
VECTORS: dict[tuple[str, str], Edit] = {
    (table.MODULES, "type"): module("Normalize", "2_Normalize", {}),
    (table.MODULES, "path"): moved,
    (table.MODULES, "idx"): modules(idx=7),
    (table.MODULES, "name"): modules(name="pool"),
    (table.MODULES, "kwargs"): modules(kwargs=["task"]),
    (table.SENTENCE, "prompts"): PROMPT,
    (table.SENTENCE, "default_prompt_name"): PROMPT,
    (table.SENTENCE, "truncate_dim"): setting(table.SENTENCE, truncate_dim=8),
    (table.SENTENCE, "model_type"): setting(table.SENTENCE, model_type="SparseEncoder"),
    (table.SENTENCE, "similarity_fn_name"): setting(table.SENTENCE, similarity_fn_name="dot"),
    (table.SENTENCE, "__version__"): setting(table.SENTENCE, __version__={"pytorch": "1.0"}),
    (table.BERT, "max_seq_length"): setting(table.BERT, max_seq_length=16),
    (table.BERT, "do_lower_case"): setting(table.BERT, do_lower_case=True),
    (table.BERT, "transformer_task"): setting(table.BERT, transformer_task="fill-mask"),
    (table.BERT, "modality_config"): setting(
        table.BERT,
        modality_config={"text": {"method": "get_text", "method_output_name": "last_hidden_state"}},
    ),
    (table.BERT, "module_output_name"): setting(table.BERT, module_output_name="other"),
    (table.BERT, "processing_kwargs"): setting(table.BERT, processing_kwargs={"text": {"max_length": 8}}),
    (table.BERT, "unpad_inputs"): setting(table.BERT, unpad_inputs=False),
    (table.BERT, "query_length"): setting(table.BERT, query_length=8),
    (table.BERT, "document_length"): setting(table.BERT, document_length=8),
    (table.BERT, "query_expansion"): setting(table.BERT, query_expansion={"length": 40}),
    **{
        (table.BERT, name): setting(table.BERT, **{name: {"output_hidden_states": True}})
        for name in ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs",
                     "config_args", "config_kwargs")
    },
    (table.POOLING, "pooling_mode"): pooled(pooling_mode=["cls", "max"]),
    **{
        (table.POOLING, name): pooled(**{name: True})
        for name in ("pooling_mode_cls_token", "pooling_mode_max_tokens",
                     "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens",
                     "pooling_mode_lasttoken")
    },
    (table.POOLING, "pooling_mode_mean_tokens"): setting(
        "1_Pooling/config.json", pooling_mode_cls_token=True, pooling_mode_mean_tokens=True
    ),
    (table.POOLING, "include_prompt"): both(PROMPT, setting("1_Pooling/config.json", include_prompt=False)),
    (table.POOLING, "embedding_dimension"): setting(
        "1_Pooling/config.json", word_embedding_dimension=None, embedding_dimension=WIDTH
    ),
    (table.POOLING, "word_embedding_dimension"): setting(
        "1_Pooling/config.json", word_embedding_dimension=7
    ),
    (table.DENSE, "activation_function"): dense(
        activation_function="torch.nn.modules.linear.Identity"
    ),
    (table.DENSE, "use_residual"): dense(use_residual=True),
    (table.DENSE, "module_input_name"): dense(**OTHER_INPUT),
    (table.DENSE, "module_output_name"): dense(module_output_name="other"),
    (table.NORMALIZE, "module_input_name"): module("Normalize", "2_Normalize", OTHER_INPUT),
    (table.NORMALIZE, "module_output_name"): module(
        "Normalize", "2_Normalize", {"module_output_name": "other"}
    ),
    (table.DROPOUT, "dropout"): module("Dropout", "2_Dropout", {"dropout": 0.5}),
    (table.TOKENIZER, "truncation_side"): setting(table.TOKENIZER, truncation_side="left"),
    (table.TOKENIZER, "model_max_length"): setting(table.TOKENIZER, model_max_length=20),
    (table.TOKENIZER, "padding_side"): setting(table.TOKENIZER, padding_side="left"),
    ("tokenizer.json", "truncation"): in_tokenizer_json(
        truncation={"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    ),
    ("tokenizer.json", "padding"): in_tokenizer_json(
        padding={"strategy": {"Fixed": 300}, "direction": "Right", "pad_to_multiple_of": None,
                 "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    ),
    ("generation_config.json", "(all)"): setting("generation_config.json", max_length=5),
    ("chat_template.jinja", "(all)"): with_chat_template,
    ("adapter_config.json", "(all)"): setting("adapter_config.json", peft_type="LORA"),
}  # fmt: skip

# not seen beside a folder with mean pooling, but beside the same module with another setting
BESIDE: dict[tuple[str, str], tuple[Edit, Edit]] = {
    (table.DENSE, "bias"): (dense(), dense(bias=True)),
    (table.DENSE, "in_features"): (dense(), dense(in_features=WIDTH)),
    (table.DENSE, "out_features"): (dense(), dense(out_features=12)),
    (table.LAYER_NORM, "dimension"): (
        module("LayerNorm", "2_LayerNorm", {"dimension": WIDTH}, **NORM),
        module("LayerNorm", "2_LayerNorm", {"dimension": WIDTH}, **NORM),
    ),
}


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


# -- cross-encoders, and what the pipeline reads


def scorer(folder: Path, **params: Any) -> TextClassification:
    task = TextClassification()
    task.load(LoadRequest(str(folder), "cpu", "float32", None, params))
    return task


def our_scores(folder: Path) -> np.ndarray:
    first, second = [a for a, _ in PAIRS], [b for _, b in PAIRS]
    return np.array([r["score"] for r in answers(scorer(folder), first, pairs=second)])


def their_scores(folder: Path) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    return np.asarray(CrossEncoder(str(folder), device="cpu").predict(PAIRS, batch_size=1))


IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
TANH = "torch.nn.modules.activation.Tanh"


def as_cross_encoder(folder: Path) -> None:
    """With the list of modules without which sentence-transformers reads none of its files."""
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    write(folder, table.MODULES, [{"idx": 0, "name": "0", "path": "", "type": kind}])
    setting(table.BERT, transformer_task="sequence-classification", module_output_name="scores",
            modality_config={"text": {"method": "forward", "method_output_name": "logits"}},
            do_lower_case=True)(folder)  # fmt: skip


CROSS: dict[tuple[str, str], Callable[[str], Edit]] = {
    (table.CONFIG, "sentence_transformers.activation_fn"): lambda path: setting(
        "config.json", sentence_transformers={"activation_fn": path}
    ),
    (table.CONFIG, "sbert_ce_default_activation_function"): lambda path: setting(
        "config.json", sbert_ce_default_activation_function=path
    ),
    (table.SENTENCE, "activation_fn"): lambda path: both(
        setting(table.SENTENCE, model_type="CrossEncoder", activation_fn=path), as_cross_encoder
    ),
}


@pytest.mark.parametrize(("file", "key"), CROSS)
def test_a_cross_encoders_activation_is_its_folders(file: str, key: str, tmp_path: Path) -> None:
    for i, path in enumerate((IDENTITY, SIGMOID)):
        folder = save_model(tmp_path / str(i), "bert", "SequenceClassification", num_labels=1)
        CROSS[file, key](path)(folder)
        assert our_scores(folder) == pytest.approx(their_scores(folder), abs=2e-5)
    CROSS[file, key](TANH)(folder)
    with pytest.raises(ModelError, match="activation_fn"):
        scorer(folder)


def test_the_precision_of_a_cross_encoder_is_the_jobs(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", "bert", "SequenceClassification", num_labels=1)
    setting(table.SENTENCE, model_type="CrossEncoder", keep_in_fp32_modules=["0.model.classifier"])(
        folder
    )
    as_cross_encoder(folder)
    assert our_scores(folder) == pytest.approx(their_scores(folder), abs=2e-5)


PIPELINE: dict[str, Any] = {
    "problem_type": "multi_label_classification",
    "id2label": {"0": "low", "1": "mid", "2": "high"},
    "function_to_apply": "none",
    "dtype": "float16",
}


@pytest.mark.parametrize("key", PIPELINE)
def test_what_the_pipeline_reads_of_a_configuration_is_read(key: str, tmp_path: Path) -> None:
    from transformers import pipeline

    folder = save_model(tmp_path / "m", "bert", "SequenceClassification", num_labels=3)
    setting("config.json", **{key: PIPELINE[key]})(folder)
    classify = pipeline(
        "text-classification", model=str(folder), device="cpu", dtype=torch.float32, truncation=True
    )
    expected = [classify(text)[0] for text in TEXTS]
    found = answers(scorer(folder), TEXTS)
    assert [r["predicted_label"] for r in found] == [e["label"] for e in expected]
    assert [r["score"] for r in found] == pytest.approx([e["score"] for e in expected], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21
def test_an_adapter_is_refused_and_its_merged_model_is_not(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    folder = save_model(tmp_path / "base", "bert", "")
    tuned = get_peft_model(
        AutoModel.from_pretrained(folder), LoraConfig(r=2, init_lora_weights=False)
    )
    tuned.save_pretrained(folder)
    assert (folder / "adapter_config.json").exists()
    with pytest.raises(ModelError, match="adapter"):
        ours(folder)
    merged = tmp_path / "merged"
    tuned.merge_and_unload().save_pretrained(merged)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (merged / name).write_bytes((folder / name).read_bytes())
    assert ours(merged) == pytest.approx(theirs(merged), abs=2e-5)


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
