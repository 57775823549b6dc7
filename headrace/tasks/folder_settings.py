"""Every setting that transformers, sentence-transformers and peft read from a model's folder.

One table: what headrace does with each. A setting of sentence-transformers' own files that is not
here is refused (`sentence_files`), since it may change the answer. A test compares each row with
the library that reads it.

Source: transformers 5.23, sentence-transformers 6.2, peft 0.21, read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Effect = Literal["applied", "refused", "no effect"]

MODULES = "modules.json"
SENTENCE = "config_sentence_transformers.json"
BERT = "sentence_bert_config.json"
POOLING = "Pooling/config.json"
SPLADE = "SpladePooling/config.json"
DENSE = "Dense/config.json"
NORMALIZE = "Normalize/config.json"
LAYER_NORM = "LayerNorm/config.json"
DROPOUT = "Dropout/config.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class FolderSetting:
    """A setting in a file of a model's folder, and what becomes of it."""

    file: str
    """Of a module: its type and `config.json`, wherever its folder is."""
    key: str
    effect: Effect
    how: str


SETTINGS: tuple[FolderSetting, ...] = (
    FolderSetting(MODULES, "type", "applied",
                  "Transformer, Pooling, Normalize, Dense, LayerNorm and Dropout; others are refused"),
    FolderSetting(MODULES, "path", "applied", "the folder of the module"),
    FolderSetting(MODULES, "idx", "no effect", "modules run in the order of the list"),
    FolderSetting(MODULES, "name", "no effect", "a label"),
    FolderSetting(MODULES, "kwargs", "refused", "arguments for code of the model's own"),
    FolderSetting(SENTENCE, "prompts", "applied", "texts that go before each row's: `--prompt-name`"),
    FolderSetting(SENTENCE, "default_prompt_name", "applied", "the prompt where none is named"),
    FolderSetting(SENTENCE, "truncate_dim", "applied", "vectors are cut to it: `--truncate-dim`"),
    FolderSetting(SENTENCE, "model_type", "refused", "a type that the task does not run"),
    FolderSetting(SENTENCE, "activation_fn", "applied", "of a cross-encoder, see config.json"),
    FolderSetting(SENTENCE, "similarity_fn_name", "no effect", "vectors are not compared"),
    FolderSetting(SENTENCE, "keep_in_fp32_modules", "no effect", "of a cross-encoder: `--dtype` decides"),
    FolderSetting(SENTENCE, "__version__", "no effect", "who wrote it"),
    FolderSetting(BERT, "max_seq_length", "applied", "a limit of tokens per row"),
    FolderSetting(BERT, "do_lower_case", "applied", "texts are lower-cased before the tokenizer"),
    FolderSetting(BERT, "transformer_task", "refused", "another than the task's"),
    FolderSetting(BERT, "modality_config", "refused", "text that is not run by `forward`"),
    FolderSetting(BERT, "module_output_name", "refused", "another than `token_embeddings`, `scores`"),
    FolderSetting(BERT, "processing_kwargs", "refused", "arguments of the tokenizer's call"),
    FolderSetting(BERT, "model_args", "refused", "arguments of `from_pretrained`, but dtype and attention"),
    FolderSetting(BERT, "model_kwargs", "refused", "as `model_args`"),
    FolderSetting(BERT, "tokenizer_args", "refused", "arguments of the tokenizer's `from_pretrained`"),
    FolderSetting(BERT, "processor_kwargs", "refused", "as `tokenizer_args`"),
    FolderSetting(BERT, "config_args", "refused", "arguments of the configuration's `from_pretrained`"),
    FolderSetting(BERT, "config_kwargs", "refused", "as `config_args`"),
    FolderSetting(BERT, "unpad_inputs", "no effect", "how batches are laid out"),
    FolderSetting(BERT, "query_length", "no effect", "only where a query is said to be one"),
    FolderSetting(BERT, "document_length", "no effect", "only where a document is said to be one"),
    FolderSetting(BERT, "query_expansion", "refused", "of models with a vector for each token"),
    FolderSetting(POOLING, "pooling_mode", "applied", "all six, and several joined"),
    FolderSetting(POOLING, "pooling_mode_cls_token", "applied", "as older versions wrote it"),
    FolderSetting(POOLING, "pooling_mode_max_tokens", "applied", "as older versions wrote it"),
    FolderSetting(POOLING, "pooling_mode_mean_tokens", "applied", "as older versions wrote it"),
    FolderSetting(POOLING, "pooling_mode_mean_sqrt_len_tokens", "applied", "as older versions wrote it"),
    FolderSetting(POOLING, "pooling_mode_weightedmean_tokens", "applied", "as older versions wrote it"),
    FolderSetting(POOLING, "pooling_mode_lasttoken", "applied", "as older versions wrote it"),
    FolderSetting(POOLING, "include_prompt", "applied", "false: the prompt's tokens are not pooled"),
    FolderSetting(POOLING, "embedding_dimension", "no effect", "the width is that of what comes out"),
    FolderSetting(POOLING, "word_embedding_dimension", "no effect", "as older versions called it"),
    FolderSetting(SPLADE, "pooling_strategy", "applied", "max or sum: `sparse-embedding`"),
    FolderSetting(SPLADE, "activation_function", "applied", "relu or log1p_relu"),
    FolderSetting(SPLADE, "embedding_dimension", "no effect", "the width is that of what comes out"),
    FolderSetting(SPLADE, "word_embedding_dimension", "no effect", "as older versions called it"),
    FolderSetting(DENSE, "activation_function", "applied", "a class of torch.nn; others are refused"),
    FolderSetting(DENSE, "use_residual", "applied", "its input is added"),
    FolderSetting(DENSE, "bias", "no effect", "the weights show it"),
    FolderSetting(DENSE, "in_features", "no effect", "the weights show it"),
    FolderSetting(DENSE, "out_features", "no effect", "the weights show it"),
    FolderSetting(DENSE, "module_input_name", "refused", "another than `sentence_embedding`"),
    FolderSetting(DENSE, "module_output_name", "refused", "another than `sentence_embedding`"),
    FolderSetting(NORMALIZE, "module_input_name", "refused", "another than `sentence_embedding`"),
    FolderSetting(NORMALIZE, "module_output_name", "refused", "another than `sentence_embedding`"),
    FolderSetting(LAYER_NORM, "dimension", "no effect", "the weights show it"),
    FolderSetting(DROPOUT, "dropout", "no effect", "of training"),
    FolderSetting(CONFIG, "sentence_transformers.activation_fn", "applied",
                  "of a cross-encoder: Sigmoid; Identity and Softmax where they decide; others are refused"),
    FolderSetting(CONFIG, "sbert_ce_default_activation_function", "applied", "as older versions called it"),
    FolderSetting(CONFIG, "problem_type", "applied", "softmax, sigmoid or neither, as in the pipeline"),
    FolderSetting(CONFIG, "id2label", "applied", "the names of labels"),
    FolderSetting(CONFIG, "function_to_apply", "no effect", "the pipeline asks for it where there is no label"),
    FolderSetting(CONFIG, "dtype", "no effect", "`--dtype` decides"),
    FolderSetting(TOKENIZER, "truncation_side", "applied", "the end that is cut off"),
    FolderSetting(TOKENIZER, "model_max_length", "applied", "a limit of tokens per row"),
    FolderSetting(TOKENIZER, "padding_side", "no effect", "batches are laid out by headrace"),
    FolderSetting("tokenizer.json", "truncation", "no effect", "the limit of tokens per row decides"),
    FolderSetting("tokenizer.json", "padding", "no effect", "batches are laid out by headrace"),
    FolderSetting("generation_config.json", "(all)", "no effect", "of generation"),
    FolderSetting("chat_template.jinja", "(all)", "no effect", "of generation"),
    FolderSetting("adapter_config.json", "(all)", "refused", "an adapter (peft) that is not merged"),
)  # fmt: skip


def keys_of(file: str) -> frozenset[str]:
    """The settings of that file that are in the table."""
    return frozenset(setting.key for setting in SETTINGS if setting.file == file)
