"""The engine of headrace's own: a transformers model on torch, batches without padding if it can.

A batch of token ids becomes an array of numbers. Of the ways `packed`, `padded`, `equal` and `alone`,
`mode_choice` decides which is right for a model. What a forward leaves behind in the model is put back
before the next (see `model_state`). Rows that are longer than any that was tried run alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from headrace.settings import cache_folder
from headrace.tasks.contract import Encodings
from workers.devices import device
from workers.devices.heap import Heap, trim_of
from workers.devices.lanes import Lanes
from workers.engines.base import EngineRequest, Handle, LoadedModel, Output, wanted_of
from workers.engines.packed import attention
from workers.engines.packed.families import Rows, family_of
from workers.engines.packed.fused_layer import fuse_layers, fuse_norms, unfuse
from workers.engines.packed.int8 import SENTENCES
from workers.engines.packed.last_layer import shorten_last_layer
from workers.engines.packed.layer_choice import Choose, by_default, for_this_cpu
from workers.engines.packed.linear import prepack_weights
from workers.engines.packed.mode_choice import TOLERANCE, Mode, ModeChoice, modes_to_try
from workers.engines.packed.model_inputs import last_tokens, padded, positions
from workers.engines.packed.model_state import ModelState
from workers.engines.packed.probes import GPU_PROBES, PROBE, long_row
from workers.models.load import check_inputs, learned_positions, load_model, text_config_of
from workers.models.tokenizer import special_token

log = logging.getLogger(__name__)

# Tokens of a batch. CPU: beyond some 2,000 nothing was gained (measured).
# GPU: chosen, about what fills an H200 with a base-sized model.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}


class PackedEngine(device.DeviceErrors):
    """See `workers.engines.base.Engine`; a `Runner` runs the batches."""

    has_lanes = True
    """Whether its runner may run several batches at the same time."""

    def load(self, request: EngineRequest) -> LoadedModel:
        asked = request.load
        self._device, self._dtype = asked.device, asked.dtype
        model = load_model(asked, request.config, request.auto_class, request.unused_weights)
        check_inputs(asked, request.tokenizer, signature(model.forward).parameters)
        self.runner = self.make_runner(
            request,
            model,
            device=asked.device,
            pad_id=special_token(model.config, request.tokenizer, "pad"),
            pool=request.pool,
            lanes=self._lanes(),
            choose=for_this_cpu(cache_folder() / "budgets"),
        )
        return LoadedModel(model.config, learned_positions(model))

    def make_runner(self, request: EngineRequest, model: Any, **more: Any) -> Runner:
        """The runner of a loaded model; an engine with another kind of numbers has its own."""
        return Runner(model, request.output, **more)

    def _lanes(self) -> Lanes | None:
        """One lane per thread of this worker; from then on an operation has one thread."""
        threads = device.threads_of(self._device) if self.has_lanes else 1
        if threads > 1:
            device.set_threads(self._device, 1)
        return Lanes(threads) if threads > 1 else None

    def probes(self) -> list[list[str]]:
        """Texts that the ways of running are compared on, some rows at a time."""
        return [PROBE, *([] if self._device == device.CPU else GPU_PROBES)]

    def prepare(self, encode: Callable[[Sequence[str]], Encodings]) -> None:
        if self._dtype == "int8":
            self.runner.round_weights(encode(SENTENCES))
        self.runner.choose_mode(*map(encode, self.probes()), row=long_row(encode))

    @property
    def padded(self) -> bool:
        return self.runner.mode == "padded"

    @property
    def width(self) -> int:
        return self.runner.width

    @property
    def in_flight(self) -> int:
        lanes = self.runner.lanes
        return device.in_flight_of(self._device) if lanes is None else lanes.in_flight

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


class Runner:
    """Runs one model on one device; `mode` says how."""

    def __init__(
        self,
        model: Any,
        output: Output,
        *,
        device: str,
        pad_id: int,
        pool: Callable[[Any, Rows], Any] | None = None,
        lanes: Lanes | None = None,
        choose: Choose = by_default,
    ) -> None:
        self.mode: Mode = "padded"
        self.width = 0
        """Numbers per row or token, as the probes gave them."""
        self.lanes = lanes
        """Where batches run at the same time; None: one after another."""
        self._model = model
        self._output = output
        self._device = device
        self._heap = Heap(trim_of() if device == "cpu" else None)
        self._pad_id = pad_id
        self._pool = pool
        self._choose = choose
        self._family = family_of(model.config, device)
        self._precision = str(model.dtype).removeprefix("torch.")
        self._config = text_config_of(model.config)
        self._one_only = False
        self._state: ModelState | None = None
        self._proven: int | None = None
        """Tokens of the longest row that was tried; None means that all lengths were tried."""
        # the kernel for cumulative lengths: on GPUs, in half precision
        self._flash = device != "cpu" and self._precision in ("float16", "bfloat16")
        self._changed: list[Any] = []
        self._usual_attention = self._attention = model.config._attn_implementation
        self._accepts = signature(model.forward).parameters

    def __call__(self, batch: Encodings) -> np.ndarray:
        """A batch's numbers, float32 on the host: `[rows, width]`, or `[tokens, width]` for tokens.

        Rows come in the batch's order; tokens too, flat as in `batch.offsets`.
        """
        return self.launch(batch)()

    def launch(self, batch: Encodings) -> Callable[[], np.ndarray]:
        """Start a batch; what is returned waits for its numbers, as `__call__` gives them.

        On a GPU nothing is waited for here, and the copy of the result is the only thing that is
        waited for there; a CPU computes at once, or on a thread where the runner has lanes.
        """
        if self.lanes is not None:
            return self.lanes.start(partial(self._numbers, batch))
        if self._device == "cpu":
            numbers = self._numbers(batch)
            return lambda: numbers
        import torch

        with torch.inference_mode():
            return device.fetch(self._run(batch).float())

    def _numbers(self, batch: Encodings) -> np.ndarray:
        """A batch's numbers, computed on a CPU now."""
        import torch

        with torch.inference_mode():
            numbers = np.asarray(self._run(batch).float().numpy())
        self._heap.settle()
        return numbers

    def set_mode(self, mode: Mode) -> None:
        """Choose how batches are run, and with it the model's attention."""
        ours = mode == "packed" and (self._family is None or self._family.interface)
        if ours:
            attention.register()
        name = attention.NAME if ours else self._usual_attention
        # as loaded, a part of a composite model may have another one that suits it alone
        if name != self._attention:
            self._model.set_attn_implementation(name)
        self._attention = name
        unfuse(self._changed)  # another way runs the model's own layers
        self._changed = self._fit() if mode == "packed" else []
        self.mode = mode

    def _fit(self) -> list[Any]:
        """Replace what packed batches need other forwards of; the modules that were changed."""
        if self._family is not None and self._family.fit is not None:
            return self._family.fit(self._model)
        return fuse_norms(self._model) if self._flash else []

    def round_weights(self, sentences: Encodings) -> None:
        """Let an fp32 model on a CPU compute in int8 from now on; before its mode is chosen."""
        from workers.engines.packed.int8 import quantize

        self.set_mode("equal")  # no padding among what the scales are taken from
        done = quantize(self._model, lambda: self(sentences))
        self._precision = "int8"
        if done.kept:
            log.warning("%d of %d layers stay in fp32: int8 is too far off in them",
                        done.kept, done.kept + done.replaced)  # fmt: skip

    def choose_mode(self, *probes: Encodings, row: Encodings | None = None) -> Mode:
        """The fastest way that gives, on the rows of each probe, what each row alone gives.

        What each row alone gives is asked of the model as it was loaded, before its weights are
        laid out for this device. `row`, a long one, is cut into rows that reach past the blocks and
        windows of a family that is not known (see `probes`).

        Raises:
            ModelError: the model runs no probe, gives NaN or infinity for all of them, or gives a
                row other numbers each time.
            RuntimeError: the device is lost.
        """
        self.set_mode("alone")
        state = ModelState(self._model)
        choice = ModeChoice(
            self, self._model.config, self._output, self._device, TOLERANCE[self._precision]
        )
        is_known = self._family is not None
        alone = choice.rows_alone(state, probes, None if is_known else row)
        self.width = alone.width
        self._lay_out()
        state.forget_rest()
        self._state = state if state else None
        if self._state is not None and self.lanes is not None:  # it is put back for each batch
            device.set_threads(self._device, self.lanes.count)
            self.lanes = None
        modes = modes_to_try(self._config, self._accepts, is_known=is_known)
        mode = choice.first_right(modes, alone)
        if not alone.all_tried:  # not before: the probes themselves must run as batches
            self._proven = alone.longest
        return mode

    def _lay_out(self) -> None:
        """Convert the weights to the fastest layout for this device."""
        if self._device == "cpu":
            prepack_weights(self._model, choose=self._choose)
        elif self._flash:
            fuse_layers(self._model)
        if self._family is None or self._family.pools is None or self._output != "sequence":
            return
        self._one_only = self._family.fit is not None or shorten_last_layer(self._model)

    def _ways(self) -> dict[Mode, Callable[[Encodings], Any]]:
        return {
            "packed": self._packed,
            "padded": self._padded,
            "equal": self._equal,
            "alone": self._one_by_one,
        }

    def _run(self, batch: Encodings) -> Any:
        """The batch in the chosen way; rows that are longer than any that was tried, alone."""
        import torch

        way = self._ways()[self.mode]
        untried = batch.lengths > (self._proven or np.inf)
        if self.mode == "alone" or not untried.any():
            return way(batch)
        edges = np.flatnonzero(np.diff(untried)) + 1
        return torch.cat(
            [
                (self._one_by_one if untried[rows[0]] else way)(batch.take(rows))
                for rows in np.split(np.arange(len(batch)), edges)
            ]
        )

    # -- packed

    def _packed(self, batch: Encodings) -> Any:
        import torch

        assert self._family is not None
        if self._output != "sequence":
            return self._finish(self._states(self._model, self._inputs_of_packed(batch))[0], batch)
        rows, pools = self._rows(batch), self._family.pools
        if self._family.last is not None:
            rows = replace(rows, last=self._to_device(self._family.last(batch, self._config)))
        short = pools is not None and self._one_only and bool(batch.lengths.all())
        inputs = self._inputs_of_packed(batch, getattr(rows, pools) if pools and short else None)
        flat = self._states(self._model.base_model, inputs)[0]
        if pools and short:  # nothing else is left in `flat`
            rows = replace(rows, **{pools: torch.arange(len(batch), device=flat.device)})
        return self._family.head(self._model, flat, rows)

    def _inputs_of_packed(self, batch: Encodings, read: Any = None) -> dict[str, Any]:
        import torch

        assert self._family is not None
        packing = attention.Packing(
            runs=() if self._flash else attention.runs_of(batch.offsets),
            cumulative=self._to_device(batch.offsets.astype(np.int32)) if self._flash else None,
            longest=int(batch.lengths.max(initial=0)),
            read=read,
        )
        skipped = self._model.config.pad_token_id if self._family.positions_skip_padding else None
        inputs = self._inputs(batch.ids, batch.type_ids) | {
            "position_ids": self._to_device(positions(batch, skipped)).unsqueeze(0),
            "packing": packing,
        }
        if self._family.asks_positions:
            inputs["attention_mask"] = torch.empty((1, 1, 1, 1), device=self._device)
        return inputs

    # -- padded, and rows of one length

    def _padded(self, batch: Encodings) -> Any:
        import torch

        inputs, kept = self._padded_inputs(batch)
        states = self._states(self._model, inputs)
        if self._output == "sequence":
            return states
        at = self._to_device(np.flatnonzero(kept))
        return self._finish(torch.index_select(states.flatten(0, 1), 0, at), batch)

    def _padded_inputs(self, batch: Encodings) -> tuple[dict[str, Any], np.ndarray]:
        ids, types, kept = padded(batch, self._pad_id)
        inputs = self._inputs(ids, types)
        if "attention_mask" in self._accepts:
            inputs["attention_mask"] = self._to_device(kept.astype(np.int64))
        return inputs, kept

    def _equal(self, batch: Encodings) -> Any:
        import torch

        # a decoder without a padding token refuses two rows at once, even of one length
        alone = getattr(self._config, "pad_token_id", None) is None
        first, parts = 0, []
        for _, rows, _ in attention.runs_of(batch.offsets):
            step = 1 if alone else rows
            for start in range(first, first + rows, step):
                parts.append(self._padded(batch.take(np.arange(start, start + step))))
            first += rows
        return torch.cat(parts)

    def _one_by_one(self, batch: Encodings) -> Any:
        import torch

        return torch.cat([self._padded(batch.take(np.array([i]))) for i in range(len(batch))])

    # -- between NumPy and the device

    def _inputs(self, ids: np.ndarray, type_ids: np.ndarray | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": self._to_device(np.atleast_2d(ids)).long()}
        if type_ids is not None:
            inputs["token_type_ids"] = self._to_device(np.atleast_2d(type_ids)).long()
        if "use_cache" in self._accepts:
            inputs["use_cache"] = False
        return inputs

    def _to_device(self, array: np.ndarray) -> Any:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device == "cpu":
            return tensor
        # from pinned memory the copy overlaps the device's work, without a wait
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _states(self, model: Any, inputs: dict[str, Any]) -> Any:
        if self._state is not None:
            self._state.put_back()
        out = model(**inputs)
        return wanted_of(out, self._output, model.config.model_type)

    def _rows(self, batch: Encodings) -> Rows:
        last = last_tokens(batch, getattr(self._config, "pad_token_id", None))
        first, last, lengths = map(self._to_device, (batch.offsets[:-1], last, batch.lengths))
        return Rows(first=first, last=last, lengths=lengths)

    def _finish(self, flat: Any, batch: Encodings) -> Any:
        return flat if self._pool is None else self._pool(flat, self._rows(batch))
