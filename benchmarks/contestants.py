"""Who takes part, by name: in a process of its own, `python -m benchmarks.contestants NAME JOB`.

The last line it prints is its outcome as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from benchmarks.job import Job

OURS, PEERS, RUNTIMES = "benchmarks.ours", "benchmarks.peers", "benchmarks.runtimes"
RAY = "benchmarks.ray_peer"
HEADRACE, EMBEDDINGS, INT8 = "headrace", "headrace-embeddings", "headrace-int8"
CEILING = "ceiling"
FLEET, BARE = "fleet", "bare-engines"
EMPTY, CELERY = "fleet-fake-task", "celery-empty-task"


@dataclass(frozen=True)
class Contestant:
    module: str
    function: str
    argument: int | str | None = None
    needs: str = ""
    """A package that may be missing."""
    against: str = HEADRACE
    """Whose time is 1: the same work. Empty: nobody's."""
    family: str = ""
    """Those of one family are one tool with other settings: its best one counts."""
    sampled: bool = False
    """Its time for a row does not depend on how many there are: a sample of them will do."""
    on_gpu: bool = True

    @property
    def is_peer(self) -> bool:
        return self.module != OURS

    def load(self) -> Callable[[Job], object]:
        found = getattr(import_module(self.module), self.function)
        return found if self.argument is None else partial(_second, found, self.argument)


def _second(function: Callable[..., object], argument: int | str, job: Job) -> object:
    return function(job, argument)


def _family(
    name: str, module: str, function: str, arguments: Iterable[int], **more: object
) -> dict[str, Contestant]:
    return {
        f"{name}-{n}": Contestant(module, function, n, family=name, **more)  # type: ignore[arg-type]
        for n in arguments
    }


SIZES = (1, 8, 32, 128)
BUDGETS = (1024, 2048, 4096)
CPU_ONLY = {"on_gpu": False}
ALL = {
    CEILING: Contestant(OURS, "ceiling", against=""),
    "tokenizer": Contestant(OURS, "tokenizer", against=""),
    "parquet": Contestant(OURS, "parquet", against=""),
    HEADRACE: Contestant(OURS, "headrace", "text-classification"),
    EMBEDDINGS: Contestant(OURS, "headrace", "feature-extraction", against=EMBEDDINGS),
    INT8: Contestant(OURS, "headrace_int8", on_gpu=False),
    **_family("pipeline", PEERS, "transformers_pipeline", SIZES, sampled=True),
    **_family("sentence-transformers", PEERS, "sentence_transformers", SIZES,
              needs="sentence_transformers", against=EMBEDDINGS),
    "sorted-loop": Contestant(PEERS, "sorted_loop"),
    **_family("onnxruntime-fused", RUNTIMES, "onnx_fused", BUDGETS, needs="onnxruntime"),
    "onnxruntime-plain": Contestant(RUNTIMES, "onnx_plain", 2048, "onnxruntime"),
    **_family("openvino", RUNTIMES, "openvino", BUDGETS, needs="openvino", **CPU_ONLY),
    "onnxruntime-int8": Contestant(RUNTIMES, "onnx_int8", 2048, "onnxruntime", INT8, on_gpu=False),
    **_family("ray-data-pipeline", RAY, "ray_data", (1, 8), needs="ray", against=FLEET),
    "ray-data-sorted": Contestant(RAY, "ray_data", 0, "ray", FLEET),
}  # fmt: skip
WHOLE = (FLEET, BARE, EMPTY, CELERY)
"""Not in a process of their own: they start their own."""
DEFAULT = [
    CEILING, "tokenizer", "parquet", HEADRACE, EMBEDDINGS, "pipeline-1", "pipeline-8",
    "pipeline-32", "sentence-transformers-8", "sentence-transformers-32", "sorted-loop",
    "onnxruntime-fused-2048", "openvino-2048", "ray-data-pipeline-1", FLEET, EMPTY, CELERY,
]  # fmt: skip
"""What `make bench` runs; the others by `--only`."""
ON_GPU = [
    CEILING, "tokenizer", HEADRACE, EMBEDDINGS, "pipeline-8", "pipeline-32", "pipeline-128",
    "sentence-transformers-32", "sentence-transformers-128", "sorted-loop", FLEET,
]  # fmt: skip
"""The same on a GPU, for each model and length of benchmarks.matrix."""


def chosen(names: Iterable[str]) -> list[str]:
    """Names of contestants, a family's name standing for all of it; raises KeyError for others."""
    found: list[str] = []
    for name in names:
        members = [n for n, c in ALL.items() if c.family == name]
        if not members and name not in ALL and name not in WHOLE:
            raise KeyError(name)
        found += members or [name]
    return found


def main(name: str, job: str) -> None:
    contestant = ALL[name]
    if contestant.needs and find_spec(contestant.needs) is None:
        print(json.dumps({"missing": contestant.needs}))
        return
    asked = Job(**json.loads(job))
    for module in ("pyarrow.parquet", "pyarrow.dataset"):  # 0.2 s that belong to nobody's time
        import_module(module)
    if contestant.is_peer:
        import torch

        torch.set_num_threads(asked.threads)
    outcome = asdict(contestant.load()(asked))  # type: ignore[call-overload]
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
