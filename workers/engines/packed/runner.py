"""Runs a model on a device: a batch of token ids becomes an array of numbers.

Four ways, `packed`, `padded`, `equal` and `alone`; `mode_choice` describes them and decides which is
right for a model. What a forward leaves behind in the model is put back before the next (see
`model_state`). Rows that are longer than any that was tried run alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings
from schemas.errors import ModelError
from workers.devices.device import is_lost
from workers.devices.heap import Heap, trim_of
from workers.engines.base import Output
from workers.engines.packed import attention
from workers.engines.packed.families import Rows, family_of
from workers.engines.packed.fused_layer import (
    fuse_layers,
    fuse_norms,
    unfuse,
)
from workers.engines.packed.last_layer import shorten_last_layer
from workers.engines.packed.layer_choice import Choose, by_default
from workers.engines.packed.linear import prepack_weights
from workers.engines.packed.mode_choice import (
    TOLERANCE,
    Mode,
    SingleRows,
    difference,
    modes_to_try,
)
from workers.engines.packed.model_state import ModelState
from workers.models.load import text_config_of

log = logging.getLogger(__name__)


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
        choose: Choose = by_default,
    ) -> None:
        self.mode: Mode = "padded"
        self.width = 0
        """Numbers per row or token, as the probes gave them."""
        self._model = model
        self._output = output
        self._device = device
        self._heap = Heap(trim_of() if device == "cpu" else None)
        self._pad_id = pad_id
        self._pool = pool
        self._choose = choose
        self._family = family_of(model.config)
        self._precision = str(model.dtype).removeprefix("torch.")
        self._config = text_config_of(model.config)
        self._first_only = False
        self._state: ModelState | None = None
        self._proven: int | None = None
        """Tokens of the longest row that was tried; None means that all lengths were tried."""
        # the kernel for cumulative lengths: on GPUs, in half precision
        self._flash = device != "cpu" and self._precision in ("float16", "bfloat16")
        self._usual_attention = model.config._attn_implementation
        self._accepts = inspect.signature(model.forward).parameters

    def __call__(self, batch: Encodings) -> np.ndarray:
        """A batch's numbers, float32 on the host: `[rows, width]`, or `[tokens, width]` for tokens.

        Rows come in the batch's order; tokens too, flat as in `batch.offsets`.
        """
        return self.launch(batch)()

    def launch(self, batch: Encodings) -> Callable[[], np.ndarray]:
        """Start a batch; what is returned waits for its numbers, as `__call__` gives them.

        On a GPU nothing is waited for here, and the copy of the result is the only thing that is
        waited for there; a CPU computes at once.
        """
        import torch

        with torch.inference_mode():
            result = self._run(batch).float()
            if self._device != "cpu":
                return _fetch(result)
            numbers = np.asarray(result.numpy())
        self._heap.settle()
        return lambda: numbers

    def set_mode(self, mode: Mode) -> None:
        """Choose how batches are run, and with it the model's attention."""
        if mode == "packed":
            attention.register()
        name = attention.NAME if mode == "packed" else self._usual_attention
        self._model.set_attn_implementation(name)
        self.mode = mode

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
        single = SingleRows(self, state, self._device)
        long_ones: list[Encodings] = []
        all_tried = True
        if row is not None and self._family is None:
            long_ones, all_tried = single.long_probes(row, self._model.config)
        tried = [single.numbers(probe) for probe in (*probes, *long_ones)]
        found = [(probe, numbers) for probe, numbers in tried if numbers is not None]
        if not found:
            raise ModelError(
                f"a model of type {self._model.config.model_type} does not run on text alone: "
                f"{single.complaint}"
            )
        if not any(np.isfinite(numbers).all(axis=1).any() for _, numbers in found):
            raise ModelError(
                f"a model of type {self._model.config.model_type} gives NaN or infinity for every "
                "text that it was tried on: its weights are damaged, or too large for the precision"
            )
        self.width = int(found[0][1].shape[1])
        self._lay_out()
        state.forget_rest()
        self._state = state if state else None
        mode = self._first_right(found)
        if not all_tried:  # not before: the probes themselves must run as batches
            self._proven = max(int(probe.lengths.max()) for probe, _ in found)
        return mode

    def _lay_out(self) -> None:
        """Convert the weights to the fastest layout for this device."""
        if self._device == "cpu":
            prepack_weights(self._model, choose=self._choose)
        elif self._flash:
            fuse_layers(self._model)
        wants_first = self._family is not None and self._family.pools_first
        if wants_first and self._output == "sequence":
            self._first_only = shorten_last_layer(self._model)

    def _first_right(self, found: Sequence[tuple[Encodings, np.ndarray]]) -> Mode:
        tolerance = TOLERANCE[self._precision]
        name = self._model.config.model_type
        for mode in modes_to_try(self._config, self._accepts, is_known=self._family is not None):
            self.set_mode(mode)
            norms = fuse_norms(self._model) if mode == "packed" and self._flash else []
            apart = max(self._difference(*pair) for pair in found)
            if apart <= tolerance:
                return mode
            unfuse(norms)
            log.warning(
                "%s batches differ from single rows by %.2g (%s): not used", mode, apart, name
            )
        raise ModelError(
            f"a model of type {name} gives the same row other numbers each time (by {apart:.2g})"
            ": it draws by chance, or keeps what headrace cannot put back"
        )

    def _difference(self, probe: Encodings, alone: np.ndarray) -> float:
        """The difference between a batch in the current mode and single rows; infinity if it cannot run."""
        try:
            return difference(self(probe), alone, self._output)
        except Exception as error:
            if is_lost(self._device):
                raise
            # a model whose code does not allow a way raises errors of any class
            log.warning("%s: %s", type(error).__name__, error)
            return float("inf")

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
        offsets = batch.offsets
        flash, short = self._flash, self._first_only and bool(batch.lengths.all())
        packing = attention.Packing(
            runs=() if flash else attention.runs_of(offsets),
            cumulative=self._to_device(offsets.astype(np.int32)) if flash else None,
            longest=int(batch.lengths.max(initial=0)),
            first=self._to_device(offsets[:-1]) if short else None,
        )
        inputs = self._inputs(batch.ids, batch.type_ids) | {
            "position_ids": self._to_device(self._positions(batch)).unsqueeze(0),
            "packing": packing,
        }
        if self._family.asks_positions:
            inputs["attention_mask"] = torch.empty((1, 1, 1, 1), device=self._device)
        if self._output != "sequence":
            return self._finish(self._states(self._model, inputs)[0], batch)
        flat = self._states(self._model.base_model, inputs)[0]
        rows = self._rows(batch)
        if packing.first is not None:
            # nothing else is left in `flat`
            rows = replace(rows, first=torch.arange(len(batch), device=flat.device))
        return self._family.head(self._model, flat, rows)

    def _positions(self, batch: Encodings) -> np.ndarray:
        """int64 `[tokens]`, restarting with each row."""
        starts = np.repeat(batch.offsets[:-1], batch.lengths)
        if self._family is None or not self._family.positions_skip_padding:
            return np.asarray(np.arange(len(batch.ids)) - starts)
        padding = self._model.config.pad_token_id
        real = (batch.ids != padding).astype(np.int64)
        counted = np.concatenate(([0], np.cumsum(real)))
        return np.asarray((counted[1:] - counted[starts]) * real + padding)

    # -- padded, and rows of one length

    def _padded(self, batch: Encodings) -> Any:
        import torch

        lengths = batch.lengths
        width = int(lengths.max(initial=0))
        kept = np.arange(width) < lengths[:, None]  # [rows, width]
        ids = np.full(kept.shape, self._pad_id, dtype=np.int32)
        ids[kept] = batch.ids
        types = None
        if batch.type_ids is not None:
            types = np.zeros(kept.shape, dtype=np.int32)
            types[kept] = batch.type_ids
        inputs = self._inputs(ids, types)
        if "attention_mask" in self._accepts:
            inputs["attention_mask"] = self._to_device(kept.astype(np.int64))
        states = self._states(self._model, inputs)
        if self._output == "sequence":
            return states
        at = self._to_device(np.flatnonzero(kept))
        return self._finish(torch.index_select(states.flatten(0, 1), 0, at), batch)

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
        if self._output == "hidden" and "last_hidden_state" not in out:
            raise ModelError(
                f"a model of type {model.config.model_type} gives {', '.join(out)} and no hidden "
                "states (last_hidden_state): there is nothing to make a vector of"
            )
        if self._output == "tokens" and "start_logits" in out:
            import torch

            return torch.stack((out["start_logits"], out["end_logits"]), dim=-1)
        wanted = "logits" if self._output != "hidden" and "logits" in out else "last_hidden_state"
        return out[wanted]

    def _rows(self, batch: Encodings) -> Rows:
        padding = getattr(self._config, "pad_token_id", None)
        last = batch.offsets[1:] - 1
        if padding is not None:
            # the last token of each row that is not padding; the first, where all are
            at = np.where(batch.ids != padding, np.arange(len(batch.ids)), 0)
            seen = np.maximum.accumulate(at) if len(at) else at
            last = np.maximum(seen[last], batch.offsets[:-1])
        first, last, lengths = map(self._to_device, (batch.offsets[:-1], last, batch.lengths))
        return Rows(first=first, last=last, lengths=lengths)

    def _finish(self, flat: Any, batch: Encodings) -> Any:
        return flat if self._pool is None else self._pool(flat, self._rows(batch))


def _fetch(result: Any) -> Callable[[], np.ndarray]:
    """Start to copy a result to the host, after its batch; the returned function waits for it."""
    import torch

    there = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    there.copy_(result, non_blocking=True)
    # blocking: a waiting thread leaves its core to the tokenizer
    done = torch.cuda.Event(blocking=True)
    done.record()

    def wait() -> np.ndarray:
        done.synchronize()
        return np.asarray(there.numpy())

    return wait
