"""A task without a model: what it returns is a function of its input, and it fails on demand.

For tests and for sizing a fleet. Wrong order, a lost row or a duplicated row shows in the output,
because every row has the length and a digest of its own text.

With `{"faults": true}` a text can hold markers:

| marker | what happens |
| --- | --- |
| `__raise__` | `forward` raises for any batch with this row |
| `__raise_encode__`, `__raise_decode__` | the same in `encode`, `decode` |
| `__oom__N` | `forward` is out of memory for any batch with this row of more than N tokens |
| `__lost__` | `forward` raises as a GPU does that takes no more work from this process |
| `__kill__` | `forward` kills its own process with SIGKILL |
| `__segv__` | `forward` reads address 0: a real segmentation fault |
| `__hang__` | `forward` never returns |
| `__spin__` | the same, inside C code that never lets another thread run |
| `__eat__N` | `forward` takes N MB of memory, to provoke the kernel's OOM killer |
| `__sleep_ms__N` | `forward` takes N ms longer |

`{"ms_per_row": 2.5}` makes every row slow and `{"load_ms": 800}` the load, with or without faults.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, LoadRequest


class FakeFault(ValueError):
    """What a marked row raises."""


class FakeOutOfMemory(RuntimeError):
    """What a marked batch of too many tokens raises."""


class FakeDeviceLost(RuntimeError):
    """What a marked row does to its device."""


class FakeTask:
    """One token per character; columns `length` (characters) and `digest` (of the text)."""

    padded = False
    """A batch costs the sum of its rows."""

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        kill: Callable[[int, int], None] = os.kill,
    ) -> None:
        self._sleep = sleep
        self._kill = kill
        self._max_length: int | None = None
        self._faults = False
        self._ms_per_row = 0.0

    def load(self, request: LoadRequest) -> None:
        self._max_length = request.max_length
        self._faults = bool(request.params.get("faults", False))
        self._ms_per_row = float(request.params.get("ms_per_row", 0.0))
        if load_ms := float(request.params.get("load_ms", 0.0)):
            self._sleep(load_ms / 1e3)

    def columns(self) -> list[pa.Field]:
        return [pa.field("length", pa.int32()), pa.field("digest", pa.string())]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        whole = (
            list(texts)
            if pairs is None
            else [f"{a}\x1f{b}" for a, b in zip(texts, pairs, strict=True)]
        )
        self._raise_if_marked("encode", whole)
        kept = [text[: self._max_length] for text in whole]
        return Encodings(
            ids=np.array([ord(c) for text in kept for c in text], dtype=np.int32),
            offsets=np.array([0, *accumulate(map(len, kept))], dtype=np.int64),
            truncated=np.array(
                [len(a) > len(b) for a, b in zip(whole, kept, strict=True)], dtype=bool
            ),
            extra=whole,
        )

    def forward(self, batch: Encodings) -> list[str]:
        texts = list(batch.extra or ())
        self._raise_if_marked("forward", texts)
        if self._faults:
            self._act(" ".join(texts), tokens=int(batch.offsets[-1]))
        if self._ms_per_row:
            self._sleep(self._ms_per_row * len(batch) / 1e3)
        return [digest_of(text) for text in texts]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        texts = list(batch.extra or ())
        self._raise_if_marked("decode", texts)
        lengths = pa.array([len(text) for text in texts], pa.int32())
        return pa.record_batch(
            [lengths, pa.array(output, pa.string())], schema=pa.schema(self.columns())
        )

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, FakeOutOfMemory)

    def is_device_lost(self, error: BaseException) -> bool:
        return isinstance(error, FakeDeviceLost)

    def default_batch_tokens(self) -> int:
        return 4096  # chosen: a few dozen rows of a review's length

    def _raise_if_marked(self, verb: str, texts: Sequence[str]) -> None:
        marker = "__raise__" if verb == "forward" else f"__raise_{verb}__"
        for text in texts if self._faults else ():
            if marker in text:
                # as libraries do, it quotes the text: logs, spans and reports must not repeat it
                raise FakeFault(f"a row asked {verb} to fail: {text!r}")

    def _act(self, text: str, *, tokens: int) -> None:
        if "__kill__" in text:
            self._kill(os.getpid(), signal.SIGKILL)
        if "__lost__" in text:
            raise FakeDeviceLost("device-side assert triggered")
        if "__segv__" in text:
            ctypes.string_at(0)
        if "__spin__" in text:
            re.match(r"(a|a)*b", "a" * 64)  # 2^64 steps, with the interpreter's lock held
        while "__hang__" in text:
            self._sleep(0.05)
        for limit in re.findall(r"__oom__(\d+)", text):
            if tokens > int(limit):
                raise FakeOutOfMemory(f"{tokens} tokens, and the text allows {limit}")
        for megabytes in re.findall(r"__eat__(\d+)", text):
            b"\x01" * (int(megabytes) << 20)
        for milliseconds in re.findall(r"__sleep_ms__(\d+)", text):
            self._sleep(int(milliseconds) / 1e3)


def digest_of(text: str) -> str:
    """16 hex characters that name a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
