"""What cannot work is refused before anything is queued, by the model's files alone, with a reason."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from headrace.storage.local import LocalStore
from headrace.tasks.model_digest import deciding_names
from headrace.tasks.tokenizer_files import VOCABULARY_NAMES, VOCABULARY_SUFFIXES
from producers.models.reference import resolve_model
from schemas.errors import ExitCode, ModelError
from tests.unit.models.model_folder import SHAPES, write_model, write_tokenizer, write_weights

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
POSITIONS = {**SHAPES, "bert.embeddings.position_embeddings.weight": (128, 10)}


def resolve(folder: Path, task: str = "text-classification", **more: Any) -> Any:
    return resolve_model(str(folder), None, task, LocalStore, **more)


def refusal(folder: Path, task: str = "text-classification", **more: Any) -> str:
    """The words; from a disk and from a store they are the same, but for the name."""
    with pytest.raises(ModelError) as refused:
        resolve(folder, task, **more)
    assert refused.value.exit_code is ExitCode.MODEL
    with pytest.raises(ModelError) as from_store:
        resolve_model("s3://bucket/m", None, task, lambda _: LocalStore(folder), **more)
    words = str(refused.value).replace(f"model {folder}", "MODEL")
    assert words == str(from_store.value).replace(f"model {LocalStore(folder).uri}", "MODEL")
    return words


def shard(folder: Path, *present: int) -> None:
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    tensors = dict(zip(SHAPES, names, strict=True))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": tensors}))
    for number in present:
        tensor = list(SHAPES)[number - 1]
        write_weights(folder / names[number - 1], {tensor: SHAPES[tensor]})


def test_all_shards_there_is_a_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    shard(folder, 1, 2, 3)
    assert resolve(folder).parameters == 1000


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    shard(folder, 1, 3)
    words = refusal(folder)
    assert "lacks 1 of 3 files of weights" in words
    assert "model-00002-of-00003.safetensors" in words


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_is_not_the_file(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / name).write_bytes(POINTER)
    assert f"{name} is a git-lfs pointer" in refusal(folder)


@pytest.mark.parametrize("weights", [b"", b"\xff" * 100, struct.pack("<Q", 5) + b"[1,2]"])
def test_weights_with_a_damaged_header_are_refused(tmp_path: Path, weights: bytes) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(weights)
    assert "model.safetensors is damaged" in refusal(folder)


def test_weights_that_were_cut_short_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    assert f"cut short: it has {len(whole) - 1:,} bytes of {len(whole):,}" in refusal(folder)


def test_weights_without_a_head_are_refused(tmp_path: Path) -> None:
    shapes = {"embeddings.word_embeddings.weight": (40, 10), "encoder.weight": (60, 10)}
    folder = write_model(tmp_path / "m", None, shapes=shapes)
    assert "no head for text-classification among its weights" in refusal(folder)
    assert resolve(folder, "feature-extraction").parameters == 1000


@pytest.mark.parametrize(
    ("task", "head", "fits"),
    [
        ("question-answering", "qa_outputs.weight", True),
        ("question-answering", "classifier.weight", False),
        ("sparse-embedding", "vocab_transform.weight", True),
        ("sparse-embedding", "other.weight", True),  # the table of tokens may be the head
    ],
)
def test_each_task_looks_for_its_own_head(tmp_path: Path, task: str, head: str, fits: bool) -> None:
    shapes = {"embeddings.word_embeddings.weight": (40, 10), head: (60, 10)}
    suffix = "ForMaskedLM" if task == "sparse-embedding" else "ForQuestionAnswering"
    folder = write_model(tmp_path / "m", None, shapes=shapes, architectures=[f"Bert{suffix}"])
    if fits:
        assert resolve(folder, task).parameters == 1000
    else:
        assert "no head for question-answering among its weights" in refusal(folder, task)


@pytest.mark.parametrize(
    ("config", "fits"),
    [
        ({}, True),  # two, as transformers takes it
        ({"id2label": {"0": "A", "1": "B"}}, True),
        ({"id2label": {"0": 0, "1": 1}}, True),
        ({"id2label": {"0": "A", "1": "B", "2": "C"}}, False),
        ({"num_labels": 1}, False),
    ],
)
def test_labels_must_fit_the_head(tmp_path: Path, config: dict[str, Any], fits: bool) -> None:
    folder = write_model(tmp_path / "m", **config)
    if fits:
        assert resolve(folder).parameters == 1000
    else:
        assert "labels (id2label), and its head classifier.weight has 2" in refusal(folder)


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", shapes=POSITIONS, max_position_embeddings=512)
    assert resolve(folder).limit.tokens == 128  # the table counts, not what the file says of it
    assert "--max-length 129 is more than the 128 positions" in refusal(folder, max_length=129)
    assert resolve(folder, max_length=128).limit.said_by == "the model's position table"


@pytest.mark.parametrize(
    ("kind", "special"),
    [("none", 0), ("bert", 2), ("roberta", 2), ("template", 2), ("sequence", 2), ("bytes", 0)],
)
def test_a_row_must_have_room_beside_its_special_tokens(
    tmp_path: Path, kind: str, special: int
) -> None:
    from tokenizers import Tokenizer, processors

    folder = write_model(tmp_path / "m")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = ("[UNK]", 0), ("film", 2)
    template = processors.TemplateProcessing(
        single="[UNK] $A film", pair="[UNK] $A $B film", special_tokens=list(ends)
    )
    tokenizer.post_processor = {
        "bert": processors.BertProcessing(*ends),
        "roberta": processors.RobertaProcessing(*ends),
        "template": template,
        "sequence": processors.Sequence([processors.ByteLevel(), template]),
        "bytes": processors.ByteLevel(),
    }.get(kind)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert tokenizer.num_special_tokens_to_add(False) == special
    assert resolve(folder, max_length=special + 1).parameters == 1000
    if special:
        words = f"--max-length {special} leaves no room beside {special} special tokens"
        assert refusal(folder, max_length=special) == words
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": special}))
        assert f"model_max_length in tokenizer_config.json says {special}, which" in refusal(folder)


def test_families_that_count_from_behind_the_padding_have_fewer_positions(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "m", shapes=POSITIONS, model_type="data2vec-text", pad_token_id=1
    )
    assert resolve(folder).limit.tokens == 126


def test_a_model_that_states_no_limit_needs_max_length(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", max_position_embeddings=None)
    assert "states no limit of tokens a row" in refusal(folder)
    assert resolve(folder, max_length=64).limit is None


def test_a_folder_without_tokenizer_files_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", vocabulary=None)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (folder / "special_tokens_map.json").write_text("{}")
    assert "has no tokenizer files" in refusal(folder)
    assert "has no tokenizer files" in refusal(folder, "feature-extraction")


@pytest.mark.parametrize(
    "name", ["vocab.txt", "spiece.model", "sentencepiece.bpe.model", "prophetnet.tokenizer"]
)
def test_any_file_with_a_vocabulary_will_do(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "m", vocabulary=None)
    (folder / name).write_text("[UNK]")
    assert resolve(folder).parameters == 1000


def test_each_file_with_a_vocabulary_is_fetched_and_part_of_the_digest(tmp_path: Path) -> None:
    names = [*VOCABULARY_NAMES, *(f"x{suffix}" for suffix in VOCABULARY_SUFFIXES)]
    for name in names:
        (tmp_path / name).write_text("a")
    assert set(deciding_names(tmp_path)) == set(names)


def test_a_model_of_letters_needs_no_vocabulary(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", vocabulary=None, model_type="canine")
    assert resolve(folder).parameters == 1000


@pytest.mark.parametrize(
    ("tokens", "rows", "verdict"),
    [
        (100, 100, "fits"),
        (100, 101, "fits"),  # tables are rounded up
        (95, 100, "warning"),
        (49, 100, "refused"),
        (101, 100, "refused"),
    ],
)
def test_a_vocabulary_of_another_model_is_refused(
    tmp_path: Path, tokens: int, rows: int, verdict: str
) -> None:
    folder = write_model(tmp_path / "m", vocab_size=rows)
    write_tokenizer(folder, {"[UNK]": 0} | {f"w{i}": i for i in range(1, tokens)})
    if verdict == "refused":
        assert "it is another model's tokenizer" in refusal(folder)
    else:
        said = resolve(folder).warnings
        assert len(said) == (verdict == "warning")
        assert all(f"{tokens} tokens and the model {rows}" in words for words in said)


def test_the_vocabulary_of_a_composite_model_is_its_texts(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", text_config={"vocab_size": 1000})
    assert "has 3 tokens and the model 1,000" in refusal(folder)


def test_code_in_the_folder_runs_only_where_it_is_trusted(tmp_path: Path) -> None:
    own = {"AutoConfig": "configuration_own.OwnConfig"}
    folder = write_model(tmp_path / "m", model_type="own-and-unknown", auto_map=own)
    assert "--trust-remote-code" in refusal(folder)
    assert resolve(folder, trust_remote_code=True).parameters == 1000
    # what transformers has itself needs no code, whatever is in the folder
    known = write_model(tmp_path / "n", model_type="gpt2", auto_map=own)
    assert resolve(known).parameters == 1000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("adapter_config.json", {"peft_type": "LORA"}, "an adapter (adapter_config.json)"),
        (
            "1_Pooling/config.json",
            {"pooling_mode": "attention"},
            "sets pooling_mode to 'attention'",
        ),
        ("config_sentence_transformers.json", {"brand_new": 1}, "sets brand_new to '1'"),
        ("config_sentence_transformers.json", {"truncate_dim": "8"}, "which is no whole number"),
    ],
)
def test_what_a_folder_asks_for_and_no_task_does_is_refused(
    name: str, content: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "m", "BertModel")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "modules.json").write_text(
        json.dumps([{"path": p, "type": f"sentence_transformers.models.{k}"} for p, k in kinds])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / name).write_text(json.dumps(content))
    assert words in refusal(folder, "feature-extraction", params={})
    assert resolve(folder, "feature-extraction").ref.revision  # as an earlier job is resumed


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"id2label": {"0": "A", "5": "B"}}, "numbers its labels 0, 5, not from 0 to 1"),
        ({"id2label": {"1": "A", "2": "B"}}, "numbers its labels 1, 2"),
        ({"id2label": {"0": "A", "one": "B"}}, "numbers its labels 0, one"),
        ({"id2label": {"0": "A", "1": None}}, "has no name for label 1, but None"),
        ({"id2label": {"0": "A", "1": ["B"]}}, "has no name for label 1"),
        ({"id2label": {"0": "A", "1": "B"}, "num_labels": 3}, "has 2 labels, and num_labels"),
        ({"id2label": ["A", "B"]}, "is no object"),
    ],
)
def test_each_label_has_a_number_and_a_name(
    tmp_path: Path, config: dict[str, Any], why: str
) -> None:
    assert why in refusal(write_model(tmp_path / "m", **config))


def test_labels_that_are_numbered_twice_are_a_warning(tmp_path: Path) -> None:
    names = {"id2label": {"0": "A", "1": "B"}, "label2id": {"A": 1, "B": 0}}
    found = resolve(write_model(tmp_path / "m", **names))
    assert "label A is 0 in id2label and 1 in label2id" in found.warnings[0]
    same = {"id2label": {"0": "A", "1": "A"}, "label2id": {"A": 1, "C": 7}}
    assert resolve(write_model(tmp_path / "same", **same)).warnings == ()


@pytest.mark.parametrize(
    ("config", "stacks", "said"),
    [
        ({"num_hidden_layers": 4}, {"bert.encoder.layer": 6}, True),
        ({"num_hidden_layers": 6}, {"bert.encoder.layer": 6}, False),
        ({"n_layer": 2}, {"transformer.h": 3}, True),
        ({"text_config": {"num_hidden_layers": 2}}, {"model.layers": 3}, True),
        # a layer for tokens further ahead; two stacks, one of them as said; layers within layers
        ({"num_hidden_layers": 2, "num_nextn_predict_layers": 1}, {"model.layers": 3}, False),
        ({"num_layers": 2}, {"encoder.block": 2, "decoder.block": 4}, False),
        ({"num_layers": 1}, {"encoder.block.0.layer": 3}, False),
        ({"num_hidden_layers": 12}, {"encoder.albert_layer_groups": 1}, False),
        ({}, {"model.layers": 3}, False),
    ],
)
def test_layers_that_the_configuration_leaves_out_are_a_warning(
    tmp_path: Path, config: dict[str, Any], stacks: dict[str, int], said: bool
) -> None:
    layers = {f"{stack}.{n}.w": (1, 1) for stack, count in stacks.items() for n in range(count)}
    folder = write_model(tmp_path / "m", shapes={**SHAPES, **layers}, **config)
    warnings = resolve(folder).warnings
    assert len(warnings) == said
    assert all("the others do not run" in words for words in warnings)


def test_shards_without_their_index_are_no_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    shard(folder, 1, 2, 3)
    (folder / "model.safetensors.index.json").unlink()
    assert "neither model.safetensors nor model.safetensors.index.json" in refusal(folder)


def test_weights_under_a_name_that_the_configuration_gives(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", transformers_weights="w.safetensors")
    assert "w.safetensors, which config.json names, is not there" in refusal(folder)
    (folder / "model.safetensors").rename(folder / "w.safetensors")
    assert resolve(folder).parameters == 1000
