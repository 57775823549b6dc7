"""What a run needs before its clock starts: corpus, sample, parts, model; and what it holds for."""

from __future__ import annotations

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.inputs import (
    make_model,
    mixed_lengths,
    split,
    take_corpus,
    take_lengths,
    take_sample,
)
from benchmarks.side_by_side.job import MAX_LENGTH, Job, first_only_flops, model_flops, read_config


def prepare(args: argparse.Namespace, results: Path) -> tuple[Job, Job]:
    """The job of all rows and that of the sample; made once beside the results and kept."""
    import torch

    gpu = torch.cuda.is_available()
    folder = results.with_suffix(".inputs").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    model = args.model or folder / "model"
    if not model.exists():
        made_on = ("cuda", "bfloat16") if gpu else ("cpu", "float32")
        make_model(model, args.size or ("base" if gpu else "minilm"), *made_on)
    corpus, sample, parts = (folder / n for n in ("corpus.parquet", "sample.parquet", "parts"))
    if not parts.exists():
        if args.corpus:
            take_corpus(args.corpus, args.rows, corpus, args.longest)
        else:
            take_lengths(
                [args.length] * args.rows if args.length else mixed_lengths(args.rows), corpus
            )
        (folder / "lengths.json").write_text(json.dumps(_lengths(corpus, model)))
        take_sample(corpus, lengths_in(folder), args.sample_rows, sample)
        split(corpus, parts)
    device, dtype = ("cuda:0", "bfloat16") if gpu else ("cpu", "float32")
    job = Job(
        str(corpus), str(model.resolve()), str(folder / "output.parquet"), args.threads, device,
        dtype, str(parts), str(folder),
    )  # fmt: skip
    return job, Job(**{**vars(job), "corpus": str(sample)})


def lengths_in(folder: Path) -> list[int]:
    found: list[int] = json.loads((folder / "lengths.json").read_text())
    return found


def _lengths(corpus: Path, model: Path) -> list[int]:
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    texts = pq.read_table(corpus, columns=["text"])["text"].to_pylist()
    ids = AutoTokenizer.from_pretrained(model)(texts, truncation=True, max_length=MAX_LENGTH)
    return [len(row) for row in ids["input_ids"]]


def facts_of(job: Job, args: argparse.Namespace, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """What the figures hold for, and the operations that the job needs.

    Raises:
        SystemExit: the results that are to be added to hold for something else.
    """
    lengths = sorted(lengths_in(Path(job.cache)))
    config = read_config(job.model)
    corpora = ", ".join(path.name for path in args.corpus or ())
    facts = {
        "rows": len(lengths), "tokens": sum(lengths), "median_tokens": lengths[len(lengths) // 2],
        "sample_rows": min(args.sample_rows, len(lengths)),
        "corpus": corpora or (f"rows of {args.length} tokens" if args.length else "generated, skewed"),
        "longest_characters": args.longest,
        "model": args.model.name if args.model else f"random {args.size or 'default'}",
        "threads": args.threads, "workers": args.workers, "device": job.device, "dtype": job.dtype,
        "useful_flops": model_flops(config, lengths),
        "useful_flops_first_only": first_only_flops(config, lengths),
    }  # fmt: skip
    for name, now in facts.items():
        if earlier is not None and name in earlier and earlier[name] != now:
            raise SystemExit(f"these results hold for {name} {earlier[name]}, not {now}")
    return facts | {"cores": os.cpu_count(), "instructions": _instructions(),
                    "torch": version("torch"), "transformers": version("transformers")}  # fmt: skip


def _instructions() -> str:
    """The widest that matter, where the system says."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "unknown"
    known = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    return ", ".join(flag for flag in known if flag in flags) or "none of those looked for"
