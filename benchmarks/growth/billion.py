"""Planner and publisher at a billion rows: real code and a real Redis, invented footers and workers.

`python -m benchmarks.growth.billion ROWS` in a process of its own, for its memory. Not simulated: the plan
is written, created in an output and read back, and the controller ticks and publishes through
Celery to an embedded Redis. Simulated: the footers of a file for every 100,000 rows, and the workers, who take all
that was published and say at once that it is done. The job's end, which lists its parts, is left
out: there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.job import peak_mb
from headrace.formats.base import Unit
from headrace.formats.input_identity import files_digest
from headrace.queue.celery_config import make_sender
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.kombu_layout import message_in
from headrace.queue.redis_connection import celery_url, connect
from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.capacity.device_hint import DeviceHint
from producers.control.controller import Controller
from producers.planning.chunking import (
    ChunkPlan,
    FileRows,
    Target,
)
from producers.submission.create import create_job
from producers.submission.prepare import PreparedJob, prepare
from schemas.names import redis_keys
from schemas.records.chunk import InputFile
from schemas.records.job import Job

FILE_ROWS, GROUPS = 100_000, 10
CHUNK_ROWS = 2_000  # about 30 s of MiniLM on one core of a CPU
TEXT_BYTES = 270
WORKERS = 1_000


@dataclass(frozen=True)
class Footers:
    """What `read_corpus` would have found, made again each time it is read."""

    rows: int

    def __iter__(self) -> Iterator[FileRows]:
        group = FILE_ROWS // GROUPS
        for n in range(self.rows // FILE_ROWS):
            uri = f"s3://corpus/year={n % 10}/part-{n:06}.parquet"
            file = InputFile(uri, group * GROUPS * TEXT_BYTES, f"etag-{n:032x}", ())
            yield FileRows(file, [Unit(group, group * TEXT_BYTES, n, n + 1) for n in range(GROUPS)])


def main(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="headrace-billion-") as folder:
        at_start = peak_mb()
        prepared = _prepared(Path(folder), rows)
        store = open_store(prepared.output, load_settings())
        began = time.perf_counter()
        job, _ = create_job(store, prepared, now_s=time.time())
        planned = {"plan_s": time.perf_counter() - began, "plan_mb": peak_mb() - at_start}
        size = (Path(folder) / "output" / "_headrace" / "plan.chunks").stat().st_size
        published = _publish(job, store)
        return {
            "rows": job.rows, "files": rows // FILE_ROWS, "chunks": job.chunks, "plan_bytes": size,
            "peak_mb": peak_mb(), "at_start_mb": at_start, **planned, **published,
        }  # fmt: skip


def _prepared(folder: Path, rows: int) -> PreparedJob:
    """A small job made by the ordinary way, with the corpus of a large one put into it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"]}), folder / "one.parquet")
    settings = load_settings(task="fake", chunk_rows=CHUNK_ROWS)
    small = prepare(
        settings, [str(folder / "one.parquet")], str(folder / "output"),
        device_hint=DeviceHint(), workers_hint=WORKERS,
    )  # fmt: skip
    footers = Footers(rows)
    digest = files_digest(found.file for found in footers)
    corpus = replace(
        small.corpus, files=footers, file_count=rows // FILE_ROWS, rows=rows, digest=digest,
        file_bytes=rows * TEXT_BYTES, text_bytes=rows * TEXT_BYTES,
    )  # fmt: skip
    spec = small.spec.model_copy(update={"inputs_digest": digest})
    plan = ChunkPlan(footers, Target(CHUNK_ROWS, 1 << 62, slack=0.0))
    return replace(small, corpus=corpus, spec=spec, plan=plan)


def _publish(job: Job, store: Store) -> dict[str, float]:
    with EmbeddedRedis() as server:
        client = connect(server.url, name="billion")
        sender = make_sender(celery_url(server.url))
        controller = Controller(client, sender, least_workers=WORKERS)
        began = time.perf_counter()
        controller.add(job, store)
        ticks: list[float] = []
        done = messages = 0
        while done < job.chunks:
            start = time.perf_counter()
            controller.tick()
            ticks.append(time.perf_counter() - start)
            taken, chunks = _work(client, job)
            done, messages = done + chunks, messages + taken
        took = time.perf_counter() - began
        redis_mb = int(client.info("memory")["used_memory_peak"]) / 2**20
        commands = int(client.info("stats")["total_commands_processed"])
        controller.close()
        sender.close()
    ticks.sort()
    return {
        "publish_s": took, "ticks": len(ticks), "messages": messages,
        "tick_ms_median": 1e3 * ticks[len(ticks) // 2], "tick_ms_most": 1e3 * ticks[-1],
        "redis_mb": redis_mb, "redis_commands": commands,
    }  # fmt: skip


def _work(client: Any, job: Job) -> tuple[int, int]:
    """Workers that need no time: they take every message and report all its chunks as done."""
    key = redis_keys.QUEUE_PREFIX + job.options.queue
    raw = client.lrange(key, 0, -1)
    client.delete(key)
    found = [message for message in map(message_in, raw) if message is not None]
    chunks = {str(chunk): "{}" for message in found for chunk in message.chunks}
    if chunks:
        client.hset(redis_keys.done(job.key), mapping=chunks)
    return len(found), len(chunks)


def in_own_process(rows: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth.billion", str(rows)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
