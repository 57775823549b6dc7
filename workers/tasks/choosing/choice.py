"""Choice: which of the given answers a language model finds likeliest behind a prompt.

Nothing is generated: one forward over the prompt gives the probability of each choice.

Columns:

- `predicted_label` dictionary<int32, string>: the choice with the highest score
- `score` float32: its score
- `scores` list<struct<label: string, score: float32>>: all choices by falling score
- `logprob` float32: logarithm of the probability that the model writes that choice, all its tokens

Parameters: `choices` (a JSON array), `length_normalize`, and those of a prompt.

A choice's score is a softmax, over the choices, of the mean (or sum) of its tokens' logarithms of
probability. With choices of one token, these are their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.candidate_labels import labels_of
from headrace.tasks.contract import ComparableOutput, Encodings, LoadRequest, PartRead
from headrace.tasks.generation.settings import GenerationSettings
from headrace.tasks.generation.structure import CHOICE_WORD
from headrace.tasks.items.choices import check_files
from schemas.errors import ConfigError
from workers.engines.base import Engine
from workers.engines.choices.engine import make_choice_engine
from workers.models.choice_tokens import ChoiceTree, tree_of
from workers.models.load import read_json
from workers.tasks.prompts import ERROR, PromptEncoder, Renderer, renderer_of
from workers.tasks.text_classification import SCORES, activate
from workers.tasks.transformer import TransformerTask

PLAIN, SPACED = 0, 1
"""Which tree is behind a prompt: of the choices, or of the choices with a space before them."""


class Choice(TransformerTask):
    """See the module."""

    task = "choice"
    architecture = None
    output = "choices"

    def __init__(self, make: Callable[[str], Engine] = make_choice_engine) -> None:
        super().__init__(make)

    def auto_class(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def prepare(self, request: LoadRequest) -> None:
        params = request.params
        check_files(partial(read_json, request.model_path), params, request.model_path)
        self.choices = labels_of(params["choices"], CHOICE_WORD)
        self._by_mean = params.get("length_normalize") is not False
        self._trees = choice_trees(self.tokenizer, self.choices)
        none = GenerationSettings({}, {}, False, "", ())
        self._renderer = renderer_of("text-generation", self.tokenizer, params, none)

    def trees(self) -> Sequence[ChoiceTree]:
        return self._trees

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`.

        Raises:
            ConfigError: a choice leaves no room for a prompt.
        """
        super().load(request)
        room = self.max_length - max(int(tree.depths.max(initial=0)) for tree in self._trees)
        if room < 1:
            raise ConfigError(
                f"--choices: the longest leaves no room for a prompt within {self.max_length} tokens"
            )
        self._prompts = PromptEncoder(
            self.tokenizer,
            without_last_space(self._renderer),
            most=room,
            on_long=request.params.get("on_long") or ERROR,
        )

    def check_width(self, request: LoadRequest) -> None: ...

    @property
    def part_read(self) -> PartRead:
        """See `SupportsPartRead.part_read`: a template may put the text anywhere."""
        return "all"

    @property
    def tokenizer_library(self) -> str:
        """See `SupportsTokenizerName.tokenizer_library`."""
        return ""

    def plain(self, texts: Sequence[str]) -> Encodings:
        """See `TransformerTask.plain`."""
        return self._encoder(texts, None)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`; `extra` says which tree is behind a prompt.

        Raises:
            InvalidRow: a prompt is too long, or its messages cannot be read.
        """
        found = self._prompts(texts)
        spaced = [not self._renderer.is_chat and text.endswith(" ") for text in texts]
        return replace(found, extra=[SPACED if it else PLAIN for it in spaced])

    def columns(self) -> list[pa.Field]:
        return [
            pa.field("predicted_label", pa.dictionary(pa.int32(), pa.string())),
            pa.field("score", pa.float32()),
            pa.field("scores", SCORES),
            pa.field("logprob", pa.float32()),
        ]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        likely = self.numbers(batch, output)
        scores = self._scores(batch, likely)
        order = np.argsort(-scores, axis=1, kind="stable")
        best = order[:, 0].astype(np.int32)
        rows, width = scores.shape
        names = pa.array(self.choices, pa.string())
        pairs = pa.StructArray.from_arrays(
            [names.take(pa.array(order.reshape(-1))),
             pa.array(np.take_along_axis(scores, order, axis=1).reshape(-1))],
            names=["label", "score"],
        )  # fmt: skip
        each = np.arange(rows)
        arrays = [
            pa.DictionaryArray.from_arrays(pa.array(best), names),
            pa.array(scores[each, best]),
            pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), pairs),
            pa.array(likely[each, best]),
        ]
        return pa.record_batch(arrays, schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `SupportsComparison.answers`."""
        return ComparableOutput("labels", self._scores(batch, self.numbers(batch, output)))

    def _scores(self, batch: Encodings, likely: np.ndarray) -> np.ndarray:
        """Float32 `[rows, choices]`, each row's sum 1."""
        if self._by_mean:
            lengths = np.stack([tree.lengths for tree in self._trees])
            likely = likely / lengths[list(batch.extra or [PLAIN] * len(batch))]
        return activate(np.asarray(likely, dtype=np.float32), "softmax")


def without_last_space(renderer: Renderer) -> Renderer:
    """The same; a space at the end of a prompt, not of a chat, is left to the choices.

    Tokenizers read a space together with the word behind it.
    """
    if renderer.is_chat:
        return renderer
    render = renderer.render
    return renderer._replace(render=lambda text: render(text).removesuffix(" "))


def choice_trees(tokenizer: Any, choices: Sequence[str]) -> list[ChoiceTree]:
    """The trees of the choices, as `PLAIN` and `SPACED` say.

    Raises:
        ConfigError: a choice has no tokens, or the same as another.
    """
    plain = [_ids(tokenizer, choice) for choice in choices]
    # a tokenizer that puts a space before each text has no other tokens for one with a space
    adds_space = str(tokenizer.convert_ids_to_tokens(_ids(tokenizer, "a")[0])).startswith("▁")
    spaced = plain if adds_space else [_ids(tokenizer, f" {choice}") for choice in choices]
    return [tree_of(plain, choices), tree_of(spaced, choices)]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
