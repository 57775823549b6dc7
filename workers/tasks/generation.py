"""Tasks whose answer is text: prompts from texts, and columns from the answers of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any, ClassVar

from headrace.tasks.contract import Encodings, LoadRequest, PartRead
from headrace.tasks.generation.answer import Answer, Watch
from headrace.tasks.generation.languages import is_by_row
from headrace.tasks.generation.reasoning import END
from headrace.tasks.generation.row_settings import check_engine, has_own
from headrace.tasks.generation.settings import GenerationSettings, settings_of
from schemas.errors import ConfigError, InvalidRow, ModelError
from workers.engines.generating.base import GeneratingEngine, GenerationRequest, Prompt
from workers.engines.generating.catalog import make_generating_engine
from workers.engines.generating.samples import RowWatch, gathered, repeated
from workers.models.load import (
    check_vocabulary,
    load_config,
    load_tokenizer,
    max_length_of,
    read_json,
)
from workers.tasks.by_row.languages import LanguageEncoder
from workers.tasks.by_row.own_prompt import OwnPrompt, own_prompt
from workers.tasks.by_row.settings import SettingsEncoder
from workers.tasks.by_row.tokens import knows_languages, language_token
from workers.tasks.prompts import PromptEncoder, renderer_of
from workers.tasks.structured.answering import AnswersInColumns
from workers.tasks.structured.typed_answers import TypedAnswers


class GenerationTask(AnswersInColumns):
    """A task on a model that writes; subclasses say which."""

    task: ClassVar[str]
    part_read: ClassVar[PartRead] = "all"
    """Which end of a text is cut, or whether it may be cut, is known when its prompt is made."""

    def __init__(self, make: Callable[[str], GeneratingEngine] = make_generating_engine) -> None:
        self._make_engine = make

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`."""
        params = request.params
        read = partial(read_json, request.model_path)
        settings = settings_of(self.task, read, params, request.model_path)
        config = load_config(request)
        self.tokenizer = load_tokenizer(request)
        check_vocabulary(request, self.tokenizer, config)
        self.settings = self._with_language(settings, params)
        self.engine = self._make_engine(request.engine)
        if self.settings.grammar and not getattr(self.engine, "follows_grammars", False):
            raise ConfigError(f"engine {request.engine} cannot follow --schema or --choices")
        self._form, self._samples = TypedAnswers(params), settings.samples
        self._splits = bool(params.get("split_reasoning"))
        if self._splits and END in self.tokenizer.all_special_tokens:
            raise ConfigError(
                f"--split-reasoning: the tokenizer of {request.model_path} leaves {END} out of texts"
            )
        self.engine.load(
            GenerationRequest(
                request, self.settings, config, self.tokenizer, int(params.get("seed") or 0)
            )
        )
        self._most = self._most_prompt_tokens(request)
        self._encoder = self._encoder_with(self.settings, params)
        self._by_row: LanguageEncoder | SettingsEncoder | None = None
        if is_by_row(params):
            self._by_row = self._language_encoder(request.engine, params)
        elif has_own(params):
            self._by_row = self._settings_encoder(request)

    def _encoder_with(
        self, settings: GenerationSettings, params: Mapping[str, Any], most: int | None = None
    ) -> PromptEncoder:
        return PromptEncoder(
            self.tokenizer,
            renderer_of(self.task, self.tokenizer, params, settings),
            most=self._most if most is None else most,
            on_long=params.get("on_long") or "error",
        )

    def _language_encoder(self, engine: str, params: Mapping[str, Any]) -> LanguageEncoder:
        """The encoder of rows with languages of their own.

        Raises:
            ConfigError: the engine cannot begin each answer with a token of its own.
        """
        found = LanguageEncoder(
            self.tokenizer, self.settings, params,
            lambda prefix: self._encoder_with(replace(self.settings, prefix=prefix), params),
        )  # fmt: skip
        if found.begins and not getattr(self.engine, "takes_first_tokens", False):
            raise ConfigError(
                f"engine {engine} writes the answers of a job in one language: leave "
                "--tgt-lang-column out, or use --engine transformers"
            )
        return found

    def _settings_encoder(self, request: LoadRequest) -> SettingsEncoder:
        """The encoder of rows with settings of their own. Raises ConfigError for the engine."""
        params, path = request.params, request.model_path
        check_engine(request.engine, getattr(self.engine, "takes_row_settings", False), params)
        read = partial(read_json, path)
        return SettingsEncoder(
            lambda own: settings_of(self.task, read, {**params, **own}, path),
            self._room,
            lambda most: self._encoder_with(self.settings, params, most),
        )

    def _with_language(self, settings: GenerationSettings, params: Any) -> GenerationSettings:
        """The language of the answers as their first token, where the tokenizer knows languages."""
        source, target = params.get("src_lang"), params.get("tgt_lang")
        if source is None or target is None or is_by_row(params):
            return settings
        if settings.prefix and not knows_languages(self.tokenizer):
            return settings  # which says it in words
        token = language_token(self.tokenizer, source, target)
        values = {**settings.values, "forced_bos_token_id": token}
        said_by = {**settings.said_by, "forced_bos_token_id": "--tgt-lang"}
        return replace(settings, values=values, said_by=said_by)

    def _most_prompt_tokens(self, request: LoadRequest) -> int:
        """Tokens of a prompt: of an encoder all that it reads; else what its answer leaves."""
        most = self._room = max_length_of(request, self.tokenizer, None)
        if self.settings.is_encoder_decoder:
            return most
        stated = self.settings.values
        left = most - int(stated["max_new_tokens"]) if "max_new_tokens" in stated else most - 1
        if left < 1:
            raise ModelError(
                f"{request.model_path} has room for {most} tokens, and --max-new-tokens "
                f"{stated['max_new_tokens']} leaves none for a prompt"
            )
        return left

    def _most_new_tokens(self, own: OwnPrompt, prompt_tokens: int) -> int:
        most = own.most_new or (own.settings or self.settings).new_tokens(prompt_tokens)
        return most if self.settings.is_encoder_decoder else min(most, self._room - prompt_tokens)

    def _no_room(self, prompt_tokens: int) -> InvalidRow:
        stated = self.settings.values.get("max_length")
        return InvalidRow(
            f"the prompt has {prompt_tokens:,} tokens, and prompt and answer together may have "
            f"{stated:,} (max_length in {self.settings.said_by.get('max_length')}): give "
            "--max-new-tokens"
        )

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`; `extra` holds each prompt as text."""
        if self._by_row is None:
            return self._encoder(texts)
        return self._by_row(texts, pairs or [""] * len(texts))

    def generate(self, rows: Encodings, watch: Watch, budget_tokens: int) -> Iterator[Answer]:
        """See `SupportsGeneration.generate`."""
        prompts = []
        for row in range(len(rows)):
            ids = rows.ids[rows.offsets[row] : rows.offsets[row + 1]]
            own = own_prompt("" if rows.extra is None else rows.extra[row])
            most = self._most_new_tokens(own, len(ids))
            if most < 1:
                yield Answer(row, error=self._no_room(len(ids)))
                continue
            key = blake2b(ids.tobytes(), digest_size=16).digest()
            prompts.append(Prompt(row, ids, own.text, key, most, own.first, own.settings, own.seed))
        samples = self._samples
        if samples == 1:
            yield from self.engine.generate(prompts, watch, budget_tokens)
            return
        asked, named = repeated(prompts, samples), RowWatch(watch, samples)
        yield from gathered(self.engine.generate(asked, named, budget_tokens), samples)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Task.is_out_of_memory`."""
        return self.engine.is_out_of_memory(error)

    def is_device_lost(self, error: BaseException) -> bool:
        """See `SupportsAsyncForward.is_device_lost`."""
        return self.engine.is_device_lost(error)

    def default_batch_tokens(self) -> int:
        """See `Task.default_batch_tokens`: of the caches of all rows that run at once."""
        return self.engine.default_batch_tokens()


class TextGeneration(GenerationTask):
    """Goes on from a prompt, or answers a chat."""

    task = "text-generation"


class Text2TextGeneration(GenerationTask):
    """Writes what a model with an encoder makes of the text."""

    task = "text2text-generation"


class Summarization(GenerationTask):
    """The same, with the model's own settings for summaries."""

    task = "summarization"


class Translation(GenerationTask):
    """The same, with the model's own settings for a pair of languages."""

    task = "translation"
