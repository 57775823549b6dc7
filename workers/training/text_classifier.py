"""A small BERT classifier trained on this machine, so that the demo needs no hub.

Two layers of width 128 read reviews made from a grammar nearly as well as their noisy labels
allow. What makes that quick is the order: short reviews first, where a negation is learned from
ten tokens, then a share of everything, up to the longest.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import InputUnreadable
from workers.batching.packing import pack

if TYPE_CHECKING:
    import torch
    from transformers import BertForSequenceClassification, PreTrainedTokenizerBase

LABELS = ("negative", "positive")
MAX_LENGTH = 512
RECORD = "training.json"

VOCABULARY = 4_000
LAYERS, WIDTH, HEADS, INNER = 2, 128, 4, 256
LEARNING_RATE = 5e-4  # measured: 3e-4 learns slower, and 1e-3 forgets the negations again
WARMUP_SHARE = 0.1
BATCH_TOKENS = 768  # measured: larger batches make too few steps of the same rows
SHORT_TOKENS = 32
LONG_SHARE = 0.2  # of the rows, at the end and of any length
HELD_OUT_SHARE = 0.1
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class Step:
    """How far a training is."""

    done: int
    of: int
    loss: float
    """Cross-entropy of the last batch."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What is kept beside the model about its training."""

    held_out_accuracy: float
    """Share of rows right among those that the training did not see; their labels have noise."""
    held_out_rows: int
    training_rows: int
    seconds: float
    seed: int


Progress = Callable[[Step], None]


def train_demo_model(
    folder: Path, rows: Path, *, seed: int = 0, progress: Progress | None = None
) -> Trained:
    """A model and its tokenizer in `folder`, trained on the `text` and `label` of a Parquet file.

    The folder appears whole or not at all: a training that is killed leaves nothing in its
    place. One that is there already is kept, and only its record returned. The same rows and
    seed give the same model.

    Raises:
        InputUnreadable: the file has no such columns, or labels other than negative, positive.
    """
    kept = trained(folder)
    if kept is not None:
        return kept
    texts, labels = _read(rows)
    with _appears_whole(folder) as unfinished:
        record = _train(unfinished, texts, labels, seed, progress)
        (unfinished / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n")
    return record


def trained(folder: Path) -> Trained | None:
    """The record of the model in this folder; None when there is none."""
    try:
        return Trained(**json.loads((folder / RECORD).read_text()))
    except FileNotFoundError:
        return None


def train_on_terminal(folder: Path, rows: Path, *, seed: int = 0) -> Trained:
    """`train_demo_model` with a progress line on the standard error, and its accuracy after it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("training a small BERT", total=None)

        def show(step: Step) -> None:
            text = f"training a small BERT · loss {step.loss:.2f}"
            bar.update(line, completed=step.done, total=step.of, description=text)

        record = train_demo_model(folder, rows, seed=seed, progress=show)
    console.print(
        f"model: {folder} · trained in {record.seconds:.0f} s on {record.training_rows:,} rows"
        f" · held-out accuracy {record.held_out_accuracy:.3f}",
        soft_wrap=True,
    )
    return record


def _read(rows: Path) -> tuple[list[str], np.ndarray]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(rows)
    if not {"text", "label"} <= set(file.schema_arrow.names):
        raise InputUnreadable(f"{rows} has no columns text and label: {file.schema_arrow.names}")
    table = file.read(["text", "label"])
    names = table["label"].to_pylist()
    unknown = set(names) - set(LABELS)
    if unknown:
        raise InputUnreadable(f"{rows} has labels other than {', '.join(LABELS)}: {unknown}")
    return table["text"].to_pylist(), np.array([LABELS.index(name) for name in names])


@contextmanager
def _appears_whole(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which gets its name at the end, if all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp's 0700 would hide the model from other users' workers
        try:
            os.rename(unfinished, folder)
        except OSError:
            if trained(folder) is None:  # else another training was faster: as good as ours
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _train(
    folder: Path,
    texts: list[str],
    labels: np.ndarray,
    seed: int,
    progress: Progress | None,
) -> Trained:
    import torch

    start_s = time.monotonic()
    tokenizer = _tokenizer(texts)
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    ids = [np.array(row) for row in encoded]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(ids))
    held_out, training = np.split(order, [math.ceil(len(ids) * HELD_OUT_SHARE)])
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(len(tokenizer))
        _fit(model, ids, labels, training, rng, progress)
    accuracy = _accuracy(model, ids, labels, held_out)
    _save(model, tokenizer, folder)
    return Trained(
        held_out_accuracy=round(accuracy, 4),
        held_out_rows=len(held_out),
        training_rows=len(training),
        seconds=round(time.monotonic() - start_s, 1),
        seed=seed,
    )


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer as BERT's uncased ones are, with the words of the texts."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    unlearned = BertWordPieceTokenizer(lowercase=True)
    words: Counter[str] = Counter()
    for text in texts:
        normal = unlearned.normalizer.normalize_str(text)
        words.update(word for word, _ in unlearned.pre_tokenizer.pre_tokenize_str(normal))
    learned = BertWordPieceTokenizer(vocab=_vocabulary(words), lowercase=True)
    return BertTokenizerFast(
        tokenizer_object=learned._tokenizer, do_lower_case=True, model_max_length=MAX_LENGTH
    )


def _vocabulary(words: Counter[str]) -> dict[str, int]:
    """Every character, at the start of a word and inside, then the commonest whole words.

    The trainer of tokenizers 0.23 is not used: it gives another vocabulary at each run.
    """
    letters = sorted({letter for word in words for letter in word})
    pieces = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    common = sorted((-count, word) for word, count in words.items() if count > 1 and word[1:])
    pieces += [word for _, word in common[: max(0, VOCABULARY - len(pieces))]]
    return {piece: number for number, piece in enumerate(pieces)}


def _model(vocabulary: int) -> BertForSequenceClassification:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=0.0,  # every row is seen once or twice, and drawing zeros is slow
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    return BertForSequenceClassification(config)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for tensors this small: on a busy machine, two that wait for each other crawl.

    Measured on two cores: alone, a second thread saves a quarter; beside other work, one thread
    took 42 s and two did not end in 600 s. The weights depend on no number of cores, too.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _save(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a bar for one file of 3 MB is noise
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()


def _fit(
    model: BertForSequenceClassification,
    ids: list[np.ndarray],
    labels: np.ndarray,
    training: np.ndarray,
    rng: np.random.Generator,
    progress: Progress | None,
) -> None:
    import torch

    short = np.array([row for row in training if len(ids[row]) <= SHORT_TOKENS], dtype=np.int64)
    mixed = training[: math.ceil(len(training) * LONG_SHARE)]
    batches = [*_batches(ids, short, rng), *_batches(ids, mixed, rng)]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        LEARNING_RATE,
        total_steps=len(batches) + 1,
        pct_start=WARMUP_SHARE,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    model.train()
    for done, batch in enumerate(batches, 1):
        loss = model(**_tensors(ids, batch), labels=torch.from_numpy(labels[batch])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(Step(done, len(batches), loss.item()))


def _batches(ids: list[np.ndarray], rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of like length together, in an order by chance."""
    if not len(rows):
        return []
    rows = rng.permutation(rows)
    lengths = np.array([len(ids[row]) for row in rows])
    batches = [rows[at] for at in pack(lengths, BATCH_TOKENS, padded=True)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _tensors(ids: list[np.ndarray], batch: np.ndarray) -> dict[str, torch.Tensor]:
    import torch

    width = max(len(ids[row]) for row in batch)
    padded = np.zeros((len(batch), width), dtype=np.int64)  # [PAD] is 0
    mask = np.zeros_like(padded)
    for at, row in enumerate(batch):
        padded[at, : len(ids[row])] = ids[row]
        mask[at, : len(ids[row])] = 1
    return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}


def _accuracy(
    model: BertForSequenceClassification,
    ids: list[np.ndarray],
    labels: np.ndarray,
    rows: np.ndarray,
) -> float:
    """Share of the rows whose likelier label is theirs."""
    import torch

    model.eval()
    right = 0
    with torch.inference_mode():
        for batch in _batches(ids, rows, np.random.default_rng(0)):
            logits: Any = model(**_tensors(ids, batch)).logits
            right += int((logits.argmax(-1).numpy() == labels[batch]).sum())
    return right / len(rows)
