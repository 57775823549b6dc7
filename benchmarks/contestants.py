"""Who takes part, by name: in a process of its own, `python -m benchmarks.contestants NAME JOB`.

The last line it prints is its outcome as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from benchmarks.job import Job


@dataclass(frozen=True)
class Contestant:
    module: str
    function: str
    argument: int | str | None = None
    needs: str = ""
    """A package that may be missing."""
    against: str = "headrace"
    """Whose time is 1: the same work."""

    @property
    def is_peer(self) -> bool:
        return self.module.endswith("peers")

    def load(self) -> Callable[[Job], object]:
        found = getattr(import_module(self.module), self.function)
        return found if self.argument is None else partial(_second, found, self.argument)


def _second(function: Callable[..., object], argument: int | str, job: Job) -> object:
    return function(job, argument)


OURS, PEERS = "benchmarks.ours", "benchmarks.peers"
EMBEDDINGS = "headrace-embeddings"
ALL = {
    "ceiling": Contestant(OURS, "ceiling"),
    "tokenizer": Contestant(OURS, "tokenizer"),
    "parquet": Contestant(OURS, "parquet"),
    "headrace": Contestant(OURS, "headrace", "text-classification"),
    EMBEDDINGS: Contestant(OURS, "headrace", "feature-extraction", against=EMBEDDINGS),
    "sorted-loop": Contestant(PEERS, "sorted_loop"),
    "onnxruntime": Contestant(PEERS, "onnx_runtime", needs="onnxruntime"),
    **{f"pipeline-{n}": Contestant(PEERS, "transformers_pipeline", n) for n in (1, 8, 32, 128)},
    **{
        f"sentence-transformers-{n}": Contestant(
            PEERS, "sentence_transformers", n, "sentence_transformers", EMBEDDINGS
        )
        for n in (8, 32, 128)
    },
    "ray-data": Contestant(PEERS, "ray_data", needs="ray"),
}


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(json.dumps(outcome | {"peak_mb": peak / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
