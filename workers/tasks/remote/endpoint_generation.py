"""Text generation by a model behind an API: rows become chats, and answers columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.settings import load_settings
from headrace.tasks.contract import Encodings, LoadRequest, PartRead
from headrace.tasks.generation.answer import Answer, Watch
from headrace.tasks.generation.endpoint import SENT, check_allowed_address, check_endpoint
from headrace.tasks.generation.row_settings import own_settings
from headrace.tasks.generation.settings import samples_of, stops_of
from schemas.records.engine import ENDPOINT
from workers.engines.endpoint.client import Client
from workers.engines.endpoint.engine import Chat, EndpointEngine
from workers.engines.generating.samples import RowWatch, gathered
from workers.tasks.prompts import chat_of
from workers.tasks.structured.answering import AnswersInColumns
from workers.tasks.structured.typed_answers import TypedAnswers


class EndpointGeneration(AnswersInColumns):
    """The task `text-generation` with the engine `endpoint`; nothing is on a device."""

    part_read: PartRead = "all"

    def load(self, request: LoadRequest) -> None:
        """See `Task.load`; `model_path` is the name of the model. Nothing is asked yet."""
        params = request.params
        check_endpoint(ENDPOINT, "text-generation", params)
        settings = load_settings()
        check_allowed_address(params["endpoint"], settings.allowed_endpoints)
        self._params = params
        self._seed, self._samples = int(params.get("seed") or 0), samples_of(params)
        self._form, self._splits = TypedAnswers(params), bool(params.get("split_reasoning"))
        key = settings.endpoint_key
        client = Client(
            params["endpoint"].rstrip("/"), key.get_secret_value() if key else None,
            settings.endpoint_timeout_s, settings.endpoint_requests,
        )  # fmt: skip
        self.engine = EndpointEngine(client, _asked(request.model_path, params))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """See `Task.encode`; no ids, and `extra` holds the messages of each row, and its settings.

        Raises:
            InvalidRow: a row's messages or settings cannot be read.
        """
        own = [own_settings(it) for it in pairs or [""] * len(texts)]
        chats = [chat_of(text, self._params) for text in texts]
        return Encodings(
            ids=np.zeros(0, np.int32), offsets=np.zeros(len(texts) + 1, np.int64),
            truncated=np.zeros(len(texts), bool), extra=list(zip(chats, own, strict=True)),
        )  # fmt: skip

    def generate(self, rows: Encodings, watch: Watch, budget_tokens: int) -> Iterator[Answer]:
        """See `SupportsGeneration.generate`."""
        samples = self._samples
        chats = [
            Chat(row * samples + at, chat, self._sent(own, at))
            for row, (chat, own) in enumerate(rows.extra or ())
            for at in range(samples)
        ]
        if samples == 1:
            yield from self.engine.generate(chats, watch)
        else:
            yield from gathered(self.engine.generate(chats, RowWatch(watch, samples)), samples)

    def _sent(self, own: Mapping[str, Any], sample: int) -> dict[str, Any]:
        """What the request of a sample has beside that of the job."""
        found = {name: own[option] for option, name in SENT.items() if option in own}
        if "stop" in own:
            found["stop"] = list(stops_of(own["stop"]))
        return found | {"seed": own.get("seed", self._seed) + sample}

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Task.is_out_of_memory`: the memory is the API's."""
        return False

    def default_batch_tokens(self) -> int:
        """See `Task.default_batch_tokens`: the API makes its own batches."""
        return 1 << 20


def _asked(model: str, params: Any) -> dict[str, Any]:
    """What all requests of a job have."""
    found: dict[str, Any] = {"model": model}
    found |= {SENT[it]: params[it] for it in SENT if params.get(it) is not None}
    stops = stops_of(params.get("stop"))
    if stops:
        found["stop"] = list(stops)
    if params.get("json_schema") is not None:
        schema = json.loads(params["json_schema"])
        form = {"name": "answer", "schema": schema, "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": form}
    return found
