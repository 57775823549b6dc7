"""Edits of a sentence-transformers folder, one for each setting; its vectors by headrace and by the library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headrace.tasks import folder_settings as table
from headrace.tasks.contract import LoadRequest
from tests.unit.tasks.sentence_folder import WIDTH, Edit, both, module, setting
from tests.unit.tiny_models import answers
from workers.tasks.feature_extraction import FeatureExtraction

TEXTS = [
    "",
    "the",
    "The WEATHER is fine today, and Paris is good!",
    "very long text with words of all kinds. " * 40,
    "good film",
]
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
