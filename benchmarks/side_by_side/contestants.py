"""Who takes part, by name: in a process of its own, `python -m benchmarks.side_by_side.contestants NAME JOB…`.

It imports once and prints a line for each job, as `benchmarks.side_by_side.processes` reads them.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from benchmarks.side_by_side.job import Job
from benchmarks.side_by_side.processes import Told, tell

OURS, PEERS, RUNTIMES = (
    "benchmarks.side_by_side.ours",
    "benchmarks.side_by_side.peers",
    "benchmarks.side_by_side.runtimes",
)
RAY = "benchmarks.side_by_side.ray_peer"
HEADRACE, EMBEDDINGS, INT8 = "headrace", "headrace-embeddings", "headrace-int8"
CEILING, TOKENIZER = "ceiling", "tokenizer"
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
    """The contestant whose time is 1, for the same work; empty: none."""
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
    TOKENIZER: Contestant(OURS, "tokenizer", against=""),
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
    CEILING, TOKENIZER, "parquet", HEADRACE, EMBEDDINGS, "pipeline-1", "pipeline-8",
    "pipeline-32", "sentence-transformers-8", "sentence-transformers-32", "sorted-loop",
    "onnxruntime-fused-2048", "openvino-2048", "ray-data-pipeline-1", FLEET, EMPTY, CELERY,
]  # fmt: skip
"""What `make bench` runs; the others by `--only`."""
ON_GPU = [
    CEILING, HEADRACE, EMBEDDINGS, "sentence-transformers-128", "sentence-transformers-32",
    "pipeline-128", "pipeline-32", "pipeline-8", "sorted-loop", TOKENIZER,
]  # fmt: skip
"""What benchmarks.gpu.matrix runs, most needed first: a lent machine's time may end before them."""


def chosen(names: Iterable[str]) -> list[str]:
    """Names of contestants, a family's name standing for all of it; raises KeyError for others."""
    found: list[str] = []
    for name in names:
        members = [n for n, c in ALL.items() if c.family == name]
        if not members and name not in ALL and name not in WHOLE:
            raise KeyError(name)
        found += members or [name]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side.contestants", description=__doc__
    )
    parser.add_argument("name", choices=ALL)
    parser.add_argument("jobs", nargs="+", type=lambda text: Job(**json.loads(text)))
    parser.add_argument("--until", type=float, help="begin no job after this second of the epoch")
    args = parser.parse_args()
    contestant = ALL[args.name]
    if contestant.needs and find_spec(contestant.needs) is None:
        for number in range(len(args.jobs)):
            tell(Told(number, missing=contestant.needs))
        return
    for module in (
        "pyarrow.parquet",
        "pyarrow.dataset",
    ):  # 0.2 s that do not count for any contestant
        import_module(module)
    for number, job in enumerate(args.jobs):
        if args.until is not None and time.time() > args.until:
            return
        tell(Told(number))
        told = _told(number, contestant, job)
        tell(told)
        following = args.jobs[number + 1 : number + 2]
        _free(
            contestant, keep_model=not told.failed and [job.model] == [n.model for n in following]
        )


def _told(number: int, contestant: Contestant, job: Job) -> Told:
    if contestant.is_peer:
        import torch

        torch.set_num_threads(job.threads)
    try:
        outcome = asdict(contestant.load()(job))  # type: ignore[call-overload]
    except Exception as error:  # out of memory, a model it cannot load: the next job may work
        traceback.print_exc()
        return Told(number, failed=f"{type(error).__name__}: {str(error)[-300:]}")
    return Told(number, outcome | {"gpu_peak_mb": _gpu_peak_mb(job)})


def _gpu_peak_mb(job: Job) -> float:
    """The most that torch had given out of the GPU's memory, in this job."""
    if job.device == "cpu":
        return 0.0
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def _free(contestant: Contestant, *, keep_model: bool) -> None:
    """Nothing of a job is left on the GPU for the next one, but the model if that wants it too."""
    if not keep_model:
        for loader in vars(import_module(contestant.module)).values():
            if hasattr(loader, "cache_clear"):
                loader.cache_clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
