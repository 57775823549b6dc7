"""A training that is submitted to a fleet has the precision that its workers serve, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from headrace.coordination.redis_clock import redis_now
from headrace.output.job_record import require_job
from headrace.storage.local import LocalStore
from producers.commands.training.options import asked_of
from producers.commands.training.train import train_model
from schemas.errors import ExitCode
from schemas.names import redis_keys
from schemas.records.job import Job
from tests.unit.training.made_rows import made_texts

GPU = {"device": "cuda:0", "dtypes": "bfloat16,float16,float32", "host": "h", "pid": "1"}
OLD_GPU = GPU | {"dtypes": "float16,float32"}
CPU = GPU | {"device": "cpu", "dtypes": "float32,int8"}


class Training:
    """`headrace train --fleet` on some rows."""

    def __init__(self, folder: Path, client: redis.Redis, url: str) -> None:
        self.folder, self.client, self.url = folder, client, url
        texts, labels = made_texts(60)
        pq.write_table(pa.table({"text": texts, "label": labels}), folder / "rows.parquet")

    def stands(self, *workers: dict[str, str], queue: str = "default") -> None:
        """These workers are the fleet's."""
        self.client.delete(redis_keys.WORKERS)
        for number, fields in enumerate(workers):
            now = redis_now(self.client)
            name = f"w{number}"
            self.client.hset(
                redis_keys.worker(name), mapping={**fields, "queue": queue, "seen_s": str(now)}
            )
            self.client.zadd(redis_keys.WORKERS, {name: now})

    def submit(self, output: str, **flags: str) -> Job:
        asked = asked_of(
            label_column="label", has_gold=True, teacher=None, student_layers=None,
            teacher_temperature=None, gold_weight=None, task="text-classification",
            tokens_column=None, base=None, size="1x32x200", problem=None, renamed=None,
            validation="0.25", balanced=False, lora=None, hyperparameters={},
        )  # fmt: skip
        where = str(self.folder / output)
        code = train_model(
            {"broker_url": self.url, "registry": str(self.folder / "registry"), **flags},
            [str(self.folder / "rows.parquet")], where, asked,
            register=None, fleet=True, wait=False, as_json=True,
        )  # fmt: skip
        assert code == ExitCode.OK
        return require_job(LocalStore(where))


@pytest.fixture
def training(tmp_path: Path, redis_client: redis.Redis, redis_url: str) -> Training:
    return Training(tmp_path, redis_client, redis_url)


@pytest.mark.parametrize(
    ("workers", "asked", "dtype"),
    [
        ((GPU, GPU), {}, "bfloat16"),
        ((GPU,), {"dtype": "float32"}, "float32"),
        ((GPU, OLD_GPU), {}, "float32"),
        ((GPU, CPU), {}, "float32"),
        ((CPU,), {"dtype": "bfloat16"}, "bfloat16"),
        ((), {}, "float32"),
        ((GPU,), {"dtype": "int8"}, "bfloat16"),
    ],
)
def test_the_precision_is_what_the_fleet_serves_or_what_was_asked_for(
    training: Training, workers: tuple[dict[str, str], ...], asked: dict[str, str], dtype: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    training.stands(*workers)
    assert training.submit("out", **asked).spec.dtype == dtype
    said = "--dtype int8 is for scoring" in capsys.readouterr().err
    assert said == (asked.get("dtype") == "int8")


def test_the_workers_of_another_queue_decide_nothing(training: Training) -> None:
    training.stands(GPU, queue="night")
    assert training.submit("out").spec.dtype == "float32"
    assert training.submit("other", queue="night").spec.dtype == "bfloat16"


def test_a_training_goes_on_as_it_began_whichever_workers_are_there(training: Training) -> None:
    training.stands(GPU)
    first = training.submit("out")
    training.stands()
    again = training.submit("out")
    assert (again.id, again.spec.dtype) == (first.id, "bfloat16")
