"""The engine of headrace's own: a transformers model on torch, batches without padding if it can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature

import numpy as np

from headrace.settings import cache_folder
from headrace.tasks.contract import Encodings
from workers.devices import device
from workers.engines.base import EngineRequest, Handle, LoadedModel
from workers.engines.packed.int8 import SENTENCES
from workers.engines.packed.layer_choice import for_this_cpu
from workers.engines.packed.probes import GPU_PROBES, PROBE, long_row
from workers.engines.packed.runner import Runner
from workers.models.load import check_inputs, learned_positions, load_model
from workers.models.tokenizer import special_token

# Tokens of a batch. CPU: beyond some 2,000 nothing was gained (measured).
# GPU: chosen, about what fills an H200 with a base-sized model.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}


class PackedEngine:
    """See `workers.engines.base.Engine`; the ways of running are in `runner`."""

    def load(self, request: EngineRequest) -> LoadedModel:
        asked = request.load
        self._device, self._dtype = asked.device, asked.dtype
        model = load_model(asked, request.config, request.auto_class, request.unused_weights)
        check_inputs(asked, request.tokenizer, signature(model.forward).parameters)
        self.runner = Runner(
            model,
            request.output,
            device=asked.device,
            pad_id=special_token(model.config, request.tokenizer, "pad"),
            pool=request.pool,
            choose=for_this_cpu(cache_folder() / "budgets"),
        )
        return LoadedModel(model.config, learned_positions(model))

    def prepare(self, encode: Callable[[Sequence[str]], Encodings]) -> None:
        if self._dtype == "int8":
            self.runner.round_weights(encode(SENTENCES))
        more = [] if self._device == device.CPU else GPU_PROBES
        self.runner.choose_mode(*map(encode, [PROBE, *more]), row=long_row(encode))

    @property
    def padded(self) -> bool:
        return self.runner.mode == "padded"

    @property
    def width(self) -> int:
        return self.runner.width

    def submit(self, batch: Encodings) -> Handle:
        return self.runner.launch(batch)

    def collect(self, handle: Handle) -> np.ndarray:
        return handle()

    def costs(self, rows: Encodings) -> np.ndarray:
        return rows.lengths

    def default_batch_tokens(self) -> int:
        return BATCH_TOKENS[device.kind_of(self._device)]

    def budget_facts(self) -> dict[str, str]:
        return {
            "mode": self.runner.mode,
            "device": device.name_of(self._device),
            "threads": str(device.threads_of(self._device)),
        }

    def is_out_of_memory(self, error: BaseException) -> bool:
        return device.is_out_of_memory(error)

    def is_device_lost(self, error: BaseException) -> bool:
        return not self.is_out_of_memory(error) and device.is_lost(self._device)
