"""Decides which way of running a model is correct: compares batches with single rows.

Four ways, tried in this order when a model is loaded; the first that agrees is kept:

- `packed`: all tokens of the batch in one row, no padding (see `attention`);
- `padded`: rows filled up to the longest, with an attention mask;
- `equal`: only rows of one length together. For models that take no mask, or whose positions
  depend on the batch;
- `alone`: one row at a time, for models that mix the rows of a batch in other ways.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from headrace.tasks.contract import Encodings
from schemas.errors import ModelError
from workers.devices.device import is_lost, is_out_of_memory
from workers.engines.base import Output
from workers.engines.packed.families import depends_on_batch
from workers.engines.packed.model_state import ModelState
from workers.engines.packed.probes import bounds_of, cut, lengths_to_try, within_time

log = logging.getLogger(__name__)

Mode = Literal["packed", "padded", "equal", "alone"]
TOLERANCE = {"float32": 1e-3, "int8": 1e-1, "float16": 3e-2, "bfloat16": 2e-1}
"""How far a batch's numbers may differ from those of single rows, as `difference` measures it.

float32: chosen, 100 times the largest difference that was measured with any family. Half precision
rounds differently in batches of other shapes. int8 rounds to another integer where float32 differs
in its last digit.
"""


def modes_to_try(config: Any, arguments: Collection[str], *, is_known: bool) -> Iterator[Mode]:
    """The ways that may be right for a model, the fastest first.

    `config` is the text model's configuration, `arguments` are the parameters of its forward, and
    `is_known` says that its family can run packed.
    """
    if not depends_on_batch(config):
        if is_known:
            yield "packed"
        if "attention_mask" in arguments:
            yield "padded"
    yield "equal"
    yield "alone"


def difference(found: np.ndarray, expected: np.ndarray, output: Output) -> float:
    """The largest difference between two arrays of one shape, relative to the size of the numbers.

    Equal infinities agree: a row that is all prompt has no maximum. So does NaN with NaN: such a row
    is an error row when it comes. A NaN for a number gives infinity.
    """
    differs = (found != expected) & ~(np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        apart = np.max(np.abs(found - expected), where=differs, initial=0.0)
    if not np.isfinite(apart):
        return float("inf")
    return float(apart / _size(expected, output))


def _size(numbers: np.ndarray, output: Output) -> float:
    """The root mean square of the numbers, since rounding errors grow with it.

    Logits near 0 are measured by 1; hidden states by their own size, however small.
    """
    finite = numbers[np.isfinite(numbers)]
    size = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
    if output in ("hidden", "token_logits"):
        return size or 1.0
    return max(1.0, size)


class Runs(Protocol):
    """What runs batches in one of the ways."""

    def __call__(self, batch: Encodings) -> np.ndarray: ...

    def set_mode(self, mode: Mode) -> None: ...


@dataclass(frozen=True, slots=True)
class RowsAlone:
    """What the model gives for rows of probes, one at a time: the truth for every batch."""

    found: list[tuple[Encodings, np.ndarray]]
    """Probes with the model's numbers; probes of which it accepts no row are left out."""
    all_tried: bool
    """Whether every length that the configuration asks for was tried."""

    @property
    def width(self) -> int:
        """Numbers per row or token."""
        return int(self.found[0][1].shape[1])

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(int(probe.lengths.max()) for probe, _ in self.found)


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """Finds the fastest way that is right for one model."""

    run: Runs
    config: Any
    """The whole model's configuration."""
    output: Output
    device: str
    tolerance: float

    def rows_alone(
        self, state: ModelState, probes: Sequence[Encodings], row: Encodings | None
    ) -> RowsAlone:
        """The numbers of each probe's rows, and of rows cut out of a long one, each run alone.

        Raises:
            ModelError: the model runs no probe, or gives NaN or infinity for all of them.
            RuntimeError: the device is lost.
        """
        single = SingleRows(self.run, state, self.device)
        long_ones: list[Encodings] = []
        all_tried = True
        if row is not None:
            long_ones, all_tried = single.long_probes(row, self.config)
        tried = [single.numbers(probe) for probe in (*probes, *long_ones)]
        found = [(probe, numbers) for probe, numbers in tried if numbers is not None]
        if not found:
            raise ModelError(
                f"a model of type {self.config.model_type} does not run on text alone: "
                f"{single.complaint}"
            )
        if not any(np.isfinite(numbers).all(axis=1).any() for _, numbers in found):
            raise ModelError(
                f"a model of type {self.config.model_type} gives NaN or infinity for every "
                "text that it was tried on: its weights are damaged, or too large for the precision"
            )
        return RowsAlone(found, all_tried)

    def first_right(self, modes: Iterable[Mode], alone: RowsAlone) -> Mode:
        """The first of these ways whose batches agree with single rows; it stays set.

        Raises:
            ModelError: none does: the model gives a row other numbers each time.
        """
        name = self.config.model_type
        for mode in modes:
            self.run.set_mode(mode)
            apart = max(self._difference(*pair) for pair in alone.found)
            if apart <= self.tolerance:
                return mode
            log.warning(
                "%s batches differ from single rows by %.2g (%s): not used", mode, apart, name
            )
        raise ModelError(
            f"a model of type {name} gives the same row other numbers each time (by {apart:.2g})"
            ": it draws by chance, or keeps what headrace cannot put back"
        )

    def _difference(self, probe: Encodings, alone: np.ndarray) -> float:
        """How far a batch in the current mode is from single rows; infinity if it cannot run."""
        try:
            return difference(self.run(probe), alone, self.output)
        except Exception as error:
            if is_lost(self.device):
                raise
            # a model whose code does not allow a way raises errors of any class
            log.warning("%s: %s", type(error).__name__, error)
            return float("inf")


class SingleRows:
    """Runs the rows of a probe one at a time, in a model that is reset after each row."""

    def __init__(
        self, run: Callable[[Encodings], np.ndarray], state: ModelState, device: str
    ) -> None:
        self._run = run
        self._state = state
        self._device = device
        self.complaint = "no probe"
        """The last error of a row, for the message when no row runs."""

    def numbers(self, probe: Encodings) -> tuple[Encodings, np.ndarray | None]:
        """The rows of the probe that the model accepts, and what it gives for them.

        The array is as `Runner.__call__` returns it; None if the model accepts no row.

        Raises:
            RuntimeError: the device is lost or out of memory.
        """
        kept, numbers = [], []
        for at in range(len(probe)):
            try:
                numbers.append(self._run(probe.take(np.array([at]))))
                kept.append(at)
            except ModelError:
                raise
            except Exception as error:
                # a row that is too short for a model becomes an error row when it comes
                if is_lost(self._device) or is_out_of_memory(error):
                    raise
                self.complaint = f"{type(error).__name__}: {error}"
            self._state.settle()
        if not kept:
            return probe, None
        return probe.take(np.array(kept)), np.concatenate(numbers)

    def long_probes(self, row: Encodings, config: Any) -> tuple[list[Encodings], bool]:
        """Probes cut out of a long row, reaching past the model's blocks and windows.

        Returns the probes, and whether every length that the configuration asks for was tried: long
        ones are left out when the time is over (see `probes.within_time`).
        """
        wanted = lengths_to_try(bounds_of(config.to_dict()), len(row.ids))
        # on a CPU the time that this process got: other processes must not decide
        clock = time.process_time if self._device == "cpu" else time.perf_counter
        done = within_time(wanted, lambda n: self.numbers(cut(row, [n])), clock)
        few = sorted({*done[:2], *done[-2:], done[len(done) // 2]}, reverse=True)
        probes = [cut(row, few), cut(row, [done[-1]] * 2), cut(row, [done[0]] * 3)]
        return probes, len(done) == len(wanted)
