"""The way of a chunk from `headrace run` to the manifest, as calls that are checked in the source.

`python -m tests.chunk_walk` prints the way and its length. Each step is a call: a function, the
function that calls it, and how. A test checks that the caller's body names the callee, so that the
list cannot describe a house that is gone.

How the length is counted:

- A reader who follows a call has to be in the file of the caller, then goes to that of the callee.
- A *stay* is a run of steps in one file. Going back to a caller's file is a stay too.
- A *return* is a stay in a file that was left before: stays minus files.
- After a hand-over (a message, a thread, a record in the store) nothing has to be gone back to.

The chunk is the first of a job in Parquet, on a folder, with a classifier on a CPU; nothing fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Step:
    """A function, entered by a call in the body of another, or by a hand-over."""

    caller: str
    """`file:function`; empty for a hand-over."""
    callee: str
    hand_over: str = ""
    """What carries the chunk where there is no call."""

    @property
    def file(self) -> str:
        return self.callee.partition(":")[0]


WAY = (
    Step("", "producers/cli.py:run", "the command line"),
    Step("producers/cli.py:run", "producers/commands/early_start.py:run_from_cold"),
    Step("producers/commands/early_start.py:run_from_cold", "producers/local/fleet.py:start"),
    Step("producers/commands/early_start.py:run_from_cold", "producers/commands/run.py:run_job"),
    # a corpus becomes chunks
    Step("producers/commands/run.py:run_job", "producers/driver/job_setup.py:set_up_here"),
    Step("producers/driver/job_setup.py:prepare_job", "producers/submission/prepare.py:prepare"),
    Step("producers/submission/prepare.py:prepare", "producers/planning/discovery.py:discover"),
    Step("producers/submission/prepare.py:prepare", "producers/planning/corpus.py:read_corpus"),
    Step("producers/planning/corpus.py:read_file", "headrace/formats/opener.py:scan_file"),
    Step("headrace/formats/opener.py:scan_file", "headrace/formats/parquet.py:scan"),
    Step("headrace/formats/parquet.py:_sizes", "headrace/formats/thrift_footer.py:column_sizes"),
    Step("producers/submission/prepare.py:prepare", "producers/planning/chunking.py:target_chunk"),
    # chunks become a plan in the output
    Step("producers/driver/job_setup.py:store_job", "producers/submission/create.py:create_job"),
    Step("producers/submission/create.py:_store_plan", "producers/planning/chunking.py:chunks"),
    Step("producers/submission/create.py:_store_plan", "headrace/output/plan_file.py:write_plan"),
    # a chunk is sent
    Step("producers/commands/run.py:drive_and_show", "producers/driver/drive.py:drive_here"),
    Step("producers/driver/drive.py:follow", "producers/control/controller.py:tick"),
    Step("producers/control/controller.py:_tick", "producers/control/demand.py:report"),
    Step("producers/control/controller.py:_tick", "headrace/queue/redis_queue.py:read"),
    Step("producers/control/controller.py:_look_after", "producers/tracking/tracked_job.py:tick"),
    Step("producers/control/controller.py:_tick", "producers/control/publish.py:publish"),
    Step("producers/control/publish.py:publish", "producers/control/dispatch_window.py:select_runs"),
    Step("producers/control/publish.py:_send", "schemas/records/message.py:ScoreChunk"),
    Step("producers/control/publish.py:_send", "headrace/queue/redis_queue.py:send"),
    # a worker takes the message and the lease
    Step("", "workers/consumer/celery_transport.py:parse_response", "the message, in Redis"),
    Step("", "workers/consumer/app.py:score_chunk", "Celery calls the task"),
    Step("workers/consumer/app.py:score_chunk", "workers/execution/handler.py:handle"),
    Step("workers/execution/handler.py:handle", "workers/execution/job_cache.py:find"),
    Step("workers/execution/handler.py:_lease", "workers/execution/lease_keeper.py:take"),
    Step("workers/execution/lease_keeper.py:take", "headrace/coordination/leases.py:take"),
    Step("workers/execution/handler.py:_load", "workers/execution/model_loader.py:load"),
    Step("workers/execution/handler.py:_begin", "headrace/coordination/attempts.py:read_attempts"),
    Step("workers/execution/handler.py:_open", "headrace/formats/opener.py:unchanged"),
    # rows become ids
    Step("workers/execution/handler.py:_begin", "workers/pipeline/run.py:start_chunk"),
    Step("", "workers/pipeline/read.py:read_windows", "the prefetcher's thread, in `start_chunk`"),
    Step("workers/pipeline/read.py:_pieces", "headrace/formats/opener.py:piece_rows"),
    Step("headrace/formats/opener.py:read", "headrace/formats/parquet.py:read"),
    Step("workers/pipeline/run.py:_tokenized", "workers/pipeline/tokenize.py:tokenize_window"),
    Step("workers/pipeline/tokenize.py:encode_rows", "workers/tasks/transformer.py:encode"),
    Step("", "workers/models/tokenizer.py:__call__", "the encoder that the task made at its load"),
    # ids become predictions
    Step("workers/execution/handler.py:_compute", "workers/pipeline/run.py:run_chunk"),
    Step("workers/pipeline/run.py:_scored", "workers/pipeline/forward.py:score_windows"),
    Step("workers/pipeline/forward.py:of", "workers/batching/packing.py:pack"),
    Step("workers/pipeline/forward.py:_launch", "workers/execution/lease_keeper.py:forwarding"),
    Step("workers/pipeline/forward.py:collect", "workers/tasks/transformer.py:forward"),
    Step("workers/tasks/transformer.py:forward", "workers/engines/packed/engine.py:submit"),
    Step("workers/pipeline/forward.py:collect", "workers/tasks/text_classification.py:decode"),
    # predictions become a part
    Step("workers/pipeline/run.py:run_chunk", "workers/pipeline/assemble.py:assemble_rows"),
    Step("workers/pipeline/assemble.py:assemble_rows", "schemas/records/part_schema.py:part_schema"),
    Step("workers/pipeline/run.py:run_chunk", "workers/pipeline/write.py:write"),
    Step("", "workers/execution/commit.py:commit", "the committer's thread, in `_compute`"),
    Step("workers/execution/commit.py:_commit", "workers/pipeline/write.py:commit"),
    Step("workers/pipeline/write.py:commit", "headrace/storage/local.py:create_from_file"),
    Step("workers/execution/commit.py:_tell", "headrace/coordination/job_counters.py:count_committed_chunk"),
    Step("workers/execution/commit.py:_commit", "workers/execution/lease_keeper.py:release"),
    # parts become a manifest
    Step("", "producers/tracking/tracked_job.py:_follow_sent", "the receipt, in Redis"),
    Step("producers/tracking/tracked_job.py:_follow_sent", "producers/records/manifest.py:take"),
    Step("producers/control/controller.py:_look_after", "producers/control/finish.py:end_if_over"),
    Step("producers/control/finish.py:finish", "producers/records/manifest.py:build_manifest"),
    Step("producers/driver/drive.py:follow", "producers/records/snapshot.py:take_snapshot"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Length:
    """How long a way is for who reads it."""

    files: int
    stays: int

    @property
    def returns(self) -> int:
        return self.stays - self.files


def stays(way: Sequence[Step]) -> Iterator[str]:
    """The files in the order in which a reader is in them."""
    here = ""
    for step in way:
        for file in (step.caller.partition(":")[0], step.file):
            if file and file != here:
                here = file
                yield file


def length(way: Sequence[Step]) -> Length:
    seen = list(stays(way))
    return Length(len(set(seen)), len(seen))


def faults(way: Sequence[Step]) -> list[str]:
    """What is no longer so: functions that are gone, and calls that their callers do not name."""
    found = []
    for step in way:
        for place in filter(None, (step.caller, step.callee)):
            if not _bodies(place):
                found.append(f"{place} is gone")
        name = step.callee.partition(":")[2]
        if step.caller and not any(name in _names(body) for body in _bodies(step.caller)):
            found.append(f"{step.caller} does not name {name}")
        if not step.caller and not step.hand_over:
            found.append(f"{step.callee}: neither a caller nor a hand-over")
    return found


@cache
def _bodies(place: str) -> list[ast.AST]:
    """The functions, classes or attributes of this name in the file; several classes may have one."""
    file, _, name = place.partition(":")
    path = ROOT / file
    if not path.exists():
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = list(ast.walk(ast.parse(path.read_text())))
    return [node for node in tree if isinstance(node, kinds) and node.name == name]


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
    }


def main() -> None:
    for step in WAY:
        how = f"({step.hand_over})" if step.hand_over else f"called by {step.caller}"
        print(f"{step.callee}  {how}")
    it = length(WAY)
    print(f"{it.files} files, {it.stays} stays, {it.returns} returns")


if __name__ == "__main__":
    main()
