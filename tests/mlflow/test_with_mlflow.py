"""The registry of models in a real MLflow server (3.17), beside MLflow's own client: `make test-mlflow`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.models.mlflow import MlflowRegistry
from headrace.models.port import ModelAddress
from tests.conftest import S3Server, free_port, wait_until
from tests.unit.models.versions.mlflow_contract import MlflowContract, Registered
from tests.unit.tiny_models import save_model

pytestmark = pytest.mark.timeout(300)

BIN = Path(os.environ.get("HEADRACE_TEST_MLFLOW", ".venv/mlflow/bin")).absolute()
START_S = 120  # of a server with a new database, on two busy cores


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a database in a file."""
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    words = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--workers", "1"]
    with (home / "server.log").open("wb") as said:
        server = subprocess.Popen(words, stdout=said, stderr=said, cwd=home, start_new_session=True)

    def is_up() -> bool:
        assert server.poll() is None, (home / "server.log").read_text()
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except (URLError, OSError):
            return False

    try:
        wait_until(is_up, START_S, "MLflow to answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


@pytest.fixture
def three(url: str) -> Registered:
    return Registered(MlflowRegistry(f"mlflow+{url}"), f"reviews-{uuid4().hex[:8]}")


def by_its_client(url: str, code: str) -> str:
    """What MLflow's own client prints; `client` is one."""
    before = f"from mlflow import MlflowClient\nclient = MlflowClient({url!r}, {url!r})\n"
    done = subprocess.run(
        [BIN / "python", "-c", before + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


class TestWithMlflow(MlflowContract):
    """Against MLflow itself."""


def test_its_client_sees_what_headrace_promotes(url: str, three: Registered) -> None:
    three.registry.promote(three.name, "champion", 2, by="ann")
    found = by_its_client(
        url,
        f"v = client.get_model_version_by_alias({three.name!r}, 'champion')\n"
        "print(v.version, v.source, v.description, v.tags['headrace.task'])",
    )
    assert found == "2 s3://models/2 n2 text-classification"


def test_headrace_sees_what_its_client_registers_and_moves(url: str, three: Registered) -> None:
    three.registry.promote(three.name, "champion", 2)
    by_its_client(
        url,
        f"v = client.create_model_version({three.name!r}, 's3://theirs/model')\n"
        f"client.set_registered_model_alias({three.name!r}, 'champion', v.version)",
    )
    found = three.registry.find(ModelAddress(three.name, alias="champion"))
    assert (found.version, found.model.uri, found.model.revision) == (4, "s3://theirs/model", "")
    assert three.registry.moves(three.name, "champion")[-1].moved_by == "MLflow"


def headrace(url: str, s3: S3Server, *words: str) -> str:
    env = os.environ | {
        "HEADRACE_MODEL_REGISTRY": f"mlflow+{url}", "HEADRACE_S3_ENDPOINT_URL": s3.endpoint,
    }  # fmt: skip
    code = "from producers.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_job_is_scored_by_the_model_that_an_alias_names(
    url: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    save_model(tmp_path / "m", "bert", "SequenceClassification")
    for file in (tmp_path / "m").iterdir():
        s3_server.client().upload_file(str(file), s3_bucket, f"models/june/{file.name}")
    pq.write_table(pa.table({"text": ["good", "bad"] * 10}), tmp_path / "day.parquet")
    name, address = f"nightly-{uuid4().hex[:8]}", f"s3://{s3_bucket}/models/june"
    headrace(url, s3_server, "models", "register", name, address)
    headrace(url, s3_server, "models", "promote", name, "1", "champion", "--why", "first")
    headrace(
        url, s3_server, "run", str(tmp_path / "day.parquet"), "--output", str(tmp_path / "out"),
        "--model", f"models:/{name}@champion",
    )  # fmt: skip
    job = json.loads((tmp_path / "out/_headrace/job.json").read_text())
    tagged = by_its_client(
        url, f"print(client.get_model_version({name!r}, '1').tags['headrace.revision'])"
    )
    assert job["spec"]["model"] == {"uri": address, "revision": tagged}
    assert json.loads((tmp_path / "out/_headrace/manifest.json").read_text())["state"] == "finished"
