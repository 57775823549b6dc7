"""What sentence-transformers' files in a model's folder ask for, for both sides. No torch.

The answer is a `Recipe`; what it cannot say is refused, never dropped: see `folder_settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.tasks import folder_settings as table
from schemas.errors import ConfigError, ModelError

ReadJson = Callable[[str], Any]
"""A JSON file of the model's folder by its name; None where there is none."""

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flags of versions before 5.7, in the order in which several are joined."""
BERT_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names that the file of the Transformer module had; the first that has something counts."""
NO_PROMPT = "none"
"""`--prompt-name` for no prompt, where the model has none of that name."""
TASK_OF = {
    "SentenceTransformer": "feature-extraction",
    "CrossEncoder": "sequence-classification",
    "SparseEncoder": "fill-mask",
}
OUTPUT_OF = {
    "SentenceTransformer": "token_embeddings",
    "CrossEncoder": "scores",
    "SparseEncoder": "token_embeddings",
}
BASE_ARGUMENTS = frozenset({"trust_remote_code", "dtype", "torch_dtype", "attn_implementation"})
"""Arguments of `from_pretrained` in a folder that change no answer, or that the job decides."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module after the pooling."""

    kind: str
    """`Normalize`, `Dense` or `LayerNorm`."""
    path: str
    """Its folder in the model's folder."""
    activation: str = ""
    """Of a Dense module: the name of a class in torch.nn."""
    residual: bool = False
    sizes: tuple[int | None, ...] = ()
    """The shape of its weight, as its configuration says it; None where that says nothing."""
    bias: bool | None = None

    def misfit(self, shapes: Mapping[str, Sequence[int]]) -> str | None:
        """Where the shapes of its weights, by name, contradict its configuration, in words.

        sentence-transformers does not load such a folder.
        """
        layer = "norm" if self.kind == "LayerNorm" else "linear"
        found = tuple(shapes.get(f"{layer}.weight", self.sizes))
        if len(found) != len(self.sizes) or any(
            said not in (None, there) for said, there in zip(self.sizes, found, strict=True)
        ):
            said = ["any" if size is None else size for size in self.sizes]
            return f"its weight is {list(found)}, and its config.json says {said}"
        if self.bias not in (None, f"{layer}.bias" in shapes):
            return f"its config.json sets bias to {self.bias}, and its weights do not"
        return None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How texts become vectors, around the transformer."""

    transformer: str = ""
    """The folder of the transformer inside the model's folder; empty: the folder itself."""
    lower_case: bool = False
    prompt: str = ""
    """Goes before each text."""
    include_prompt: bool = True
    """False: the prompt's tokens are not pooled."""
    pooling: tuple[str, ...] = ("mean",)
    """Several are joined to one vector."""
    after: tuple[Module, ...] = ()
    truncate_dim: int | None = None
    """Numbers of a vector that are kept, after all modules."""
    normalize: bool = False
    """Scale to length 1 at last, whatever the modules do."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a cross-encoder's files ask for, around the classifier."""

    activation: str | None = None
    """`Identity`, `Sigmoid` or `Softmax`; None: none is named."""
    lower_case: bool = False


@dataclass(frozen=True, slots=True)
class Splade:
    """How the logits of a masked language model become a sparse vector."""

    strategy: str = "max"
    """`max` or `sum` over a row's tokens."""
    activation: str = "relu"
    """`relu` or `log1p_relu`; a log(1 + x) follows."""
    lower_case: bool = False


def splade_of(read: ReadJson, where: str) -> Splade:
    """What a SPLADE model's files ask for; of a masked language model's own folder the usual.

    Raises:
        ModelError: they ask for something that headrace does not do.
    """
    check_adapter(read, where)
    modules = read(table.MODULES)
    if modules is None:
        return Splade()
    kinds = [_kind(module) for module in modules]
    is_ours = len(kinds) == 2 and kinds[0] in ("Transformer", "MLMTransformer")
    if not is_ours or kinds[1] != "SpladePooling" or modules[0].get("path"):
        raise _refused(where, table.MODULES, "type", ", ".join(kinds))
    sentence = _settings(read(table.SENTENCE), table.SENTENCE, table.SENTENCE, where)
    name = sentence.get("default_prompt_name")
    if sentence.get("prompts", {}).get(name):
        raise _refused(where, table.SENTENCE, "default_prompt_name", name)
    file = _join(str(modules[1].get("path", "")), "config.json")
    found = _settings(read(file), table.SPLADE, file, where)
    strategy = found.get("pooling_strategy", "max")
    activation = found.get("activation_function", "relu")
    for key, value, known in (
        ("pooling_strategy", strategy, ("max", "sum")),
        ("activation_function", activation, ("relu", "log1p_relu")),
    ):
        if value not in known:
            raise _refused(where, file, key, value)
    return Splade(strategy, activation, lower_case_of(read, "", where, "SparseEncoder"))


def recipe_of(read: ReadJson, params: Mapping[str, Any], where: str) -> Recipe:
    """What the task's parameters say, and for what they leave open, the model's own files.

    A pooling that is named leaves out Dense and LayerNorm modules, which were trained on another.

    Raises:
        ConfigError: a parameter without meaning for this model.
        ModelError: the files ask for something that headrace does not do.
    """
    asked = params.get("pooling", "auto")
    if asked != "auto" and asked not in POOLINGS:
        raise ConfigError(f"pooling {asked!r} is not one of auto, {', '.join(POOLINGS)}")
    check_adapter(read, where)
    recipe, sentence = Recipe(), None
    if read(table.MODULES) is not None:  # without it sentence-transformers reads none of the others
        recipe = _modules(read, where, is_auto=asked == "auto")
        check_adapter(read, where, recipe.transformer)
        recipe = replace(recipe, lower_case=lower_case_of(read, recipe.transformer, where))
        sentence = read(table.SENTENCE)
    recipe = _sentence_settings(sentence, recipe, params, where)
    normalize = params.get("normalize")
    if normalize is not None:
        kept = tuple(it for it in recipe.after if normalize or it.kind != "Normalize")
        recipe = replace(recipe, normalize=bool(normalize), after=kept)
    return recipe if asked == "auto" else replace(recipe, pooling=(asked,))


def transformer_folder(read: ReadJson) -> str:
    """The folder of the transformer inside a model's folder, `0_Transformer`; empty: itself."""
    modules = read(table.MODULES)
    first = modules[0] if isinstance(modules, list) and modules else None
    if not isinstance(first, Mapping) or _kind(first) != "Transformer":
        return ""
    return str(first.get("path") or "")


def check_adapter(read: ReadJson, where: str, folder: str = "") -> None:
    """Check that the folder, or that folder in it, holds no adapter that has yet to be applied.

    Raises:
        ModelError: it does; with peft installed transformers would apply it, else not.
    """
    name = _join(folder, "adapter_config.json")
    if read(name) is not None:
        raise ModelError(
            f"model {where} holds an adapter ({name}) that is not merged: merge it "
            "with peft (merge_and_unload, save_pretrained), or remove its files"
        )


def lower_case_of(
    read: ReadJson, transformer: str, where: str, kind: str = "SentenceTransformer"
) -> bool:
    """Whether texts are to be lower-cased, by the Transformer module's file, which is checked.

    Raises:
        ModelError: the file asks for something else that would change the answer.
    """
    names = [_join(transformer, name) for name in BERT_FILES]
    file = next((name for name in names if read(name)), names[0])
    found = _settings(read(file), table.BERT, file, where)
    for key, value in found.items():
        if key == "modality_config":
            text = value.get("text", {})
            output = "last_hidden_state" if kind == "SentenceTransformer" else "logits"
            is_ours = text.get("method") == "forward" and text.get("method_output_name") == output
        elif key.endswith(("_args", "_kwargs")):
            is_ours = value.keys() <= BASE_ARGUMENTS
        elif key in ("transformer_task", "module_output_name"):
            is_ours = value == (TASK_OF if key == "transformer_task" else OUTPUT_OF)[kind]
        else:
            is_ours = key != "query_expansion"
        if not is_ours:
            raise _refused(where, file, key, value)
    return bool(found.get("do_lower_case"))


def scoring_of(read: ReadJson, config: Mapping[str, Any], where: str) -> Scoring:
    """What a cross-encoder's files ask for; of a plain classifier's folder nothing.

    Raises:
        ModelError: they ask for something that headrace does not do.
    """
    check_adapter(read, where)
    sentence = (read(table.SENTENCE) or {}) if read(table.MODULES) is not None else {}
    named = config.get("sentence_transformers") or {}
    path = named.get("activation_fn") or config.get("sbert_ce_default_activation_function")
    lower = False
    if sentence.get("model_type") == "CrossEncoder":
        found = _settings(sentence, table.SENTENCE, table.SENTENCE, where)
        name = found.get("default_prompt_name")
        if found.get("prompts", {}).get(name):
            raise _refused(where, table.SENTENCE, "default_prompt_name", name)
        modules = [_kind(module) for module in read(table.MODULES) or []]
        if modules not in ([], ["Transformer"]):
            raise _refused(where, table.MODULES, "type", ", ".join(modules))
        path = path or found.get("activation_fn")
        lower = lower_case_of(read, "", where, "CrossEncoder")
    if not path:
        return Scoring(lower_case=lower)
    activation = str(path).rpartition(".")[2]
    if not str(path).startswith("torch.") or activation not in ("Identity", "Sigmoid", "Softmax"):
        raise _refused(where, table.CONFIG, "activation_fn", path)
    return Scoring(activation, lower)


def _modules(read: ReadJson, where: str, *, is_auto: bool) -> Recipe:
    """What modules.json says; the mean of the folder's own transformer where there is none."""
    recipe = Recipe()
    seen: list[str] = []
    for module in read(table.MODULES) or []:
        kind, path = _kind(module), str(module.get("path", ""))
        # of other types nothing can be said, and with a pooling that is named they are left out
        if not is_auto and kind not in ("Transformer", "Normalize", "Pooling"):
            continue
        if _settings(module, table.MODULES, table.MODULES, where).get("kwargs"):
            raise _refused(where, table.MODULES, "kwargs", module["kwargs"])
        if not _is_in_place(kind, seen):
            raise _refused(where, table.MODULES, "type", module.get("type"))
        seen.append(kind)
        if kind == "Transformer":
            recipe = replace(recipe, transformer=path)
        elif kind == "Pooling":
            recipe = _pooling(read, recipe, path, where, is_auto=is_auto)
        elif kind != "Dropout":
            recipe = replace(recipe, after=(*recipe.after, _module(read, kind, path, where)))
    if is_auto and "Pooling" not in seen:
        raise ModelError(
            f"model {where}: modules.json has no Pooling, which makes one vector of a row's: name "
            "one with --pooling"
        )
    return recipe


def _kind(module: Mapping[str, Any]) -> str:
    """`Pooling`, for sentence-transformers' own classes, wherever a version kept them."""
    path = str(module.get("type", ""))
    return path.rpartition(".")[2] if path.startswith("sentence_transformers.") else path


def _is_in_place(kind: str, seen: list[str]) -> bool:
    if kind in ("Transformer", "Pooling"):
        return seen == ([] if kind == "Transformer" else ["Transformer"])
    return kind in ("Normalize", "Dense", "LayerNorm", "Dropout") and "Pooling" in seen


def _pooling(read: ReadJson, recipe: Recipe, path: str, where: str, *, is_auto: bool) -> Recipe:
    file = _join(path, "config.json")
    if is_auto:
        _check_there(read, file, where)
    found = _settings(read(file), table.POOLING, file, where)
    recipe = replace(recipe, include_prompt=bool(found.get("include_prompt", True)))
    if not is_auto:
        return recipe
    asked = found.get("pooling_mode")
    if asked is None:
        asked = [mode for flag, mode in LEGACY_POOLINGS.items() if found.get(flag)] or ["mean"]
    modes = (asked,) if isinstance(asked, str) else tuple(asked)
    if not modes or not set(modes) <= set(POOLINGS):
        raise _refused(where, file, "pooling_mode", asked)
    return replace(recipe, pooling=modes)


def _module(read: ReadJson, kind: str, path: str, where: str) -> Module:
    file = _join(path, "config.json")
    if kind != "Normalize":
        _check_there(read, file, where)
    found = _settings(read(file), f"{kind}/config.json", file, where)
    for key in ("module_input_name", "module_output_name"):
        if found.get(key, "sentence_embedding") != "sentence_embedding":
            raise _refused(where, file, key, found[key])
    if kind == "LayerNorm":
        return Module(kind, path, sizes=(found.get("dimension"),))
    if kind != "Dense":
        return Module(kind, path)
    activation = str(found.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not activation.startswith("torch.nn."):
        raise _refused(where, file, "activation_function", activation)
    return Module(
        kind,
        path,
        activation.rpartition(".")[2],
        bool(found.get("use_residual")),
        (found.get("out_features"), found.get("in_features")),
        found.get("bias"),
    )


def _check_there(read: ReadJson, file: str, where: str) -> None:
    """A module without its settings is half a copy of a folder."""
    if read(file) is None:
        raise ModelError(
            f"model {where}: {file}, of a module in modules.json, is not there; copy the folder again"
        )


def _sentence_settings(
    sentence: Any, recipe: Recipe, params: Mapping[str, Any], where: str
) -> Recipe:
    """With the prompt and the width that the parameters name, else the model's own file."""
    found = _settings(sentence, table.SENTENCE, table.SENTENCE, where)
    kind = found.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise _refused(where, table.SENTENCE, "model_type", kind)
    prompts = found.get("prompts", {})
    asked = params.get("prompt_name")
    name = asked or found.get("default_prompt_name")
    if asked == NO_PROMPT and NO_PROMPT not in prompts:
        name = None
    elif name is not None and name not in prompts:
        listed = ", ".join(prompts) or "no prompts"
        raise ConfigError(f"--prompt-name {name}: model {where} has {listed}")
    dim = params.get("truncate_dim", found.get("truncate_dim"))
    if dim is not None and not isinstance(dim, int):
        raise ModelError(
            f"model {where}: {table.SENTENCE} sets truncate_dim to {str(dim)[:40]!r}, which is no whole number"
        )
    if dim is not None and dim < 1:
        raise ConfigError(f"--truncate-dim {dim}: a vector has at least one number")
    return replace(recipe, prompt=prompts.get(name) or "", truncate_dim=dim)


def _settings(found: Any, kind: str, file: str, where: str) -> dict[str, Any]:
    """What a file sets, without nulls; every setting is one of the table's.

    Raises:
        ModelError: one is not.
    """
    if found is not None and not isinstance(found, Mapping):
        raise ModelError(f"model {where}: {file} holds no object")
    kept = {key: value for key, value in (found or {}).items() if value is not None}
    unknown = sorted(kept.keys() - table.keys_of(kind))
    if unknown:
        raise _refused(where, file, unknown[0], kept[unknown[0]])
    return kept


def _refused(where: str, file: str, key: str, value: Any) -> ModelError:
    return ModelError(
        f"model {where}: {file} sets {key} to {str(value)[:80]!r}, which headrace does not do, and "
        "without it the answers would be others"
    )


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
