"""headrace-airflow in a real Airflow (standalone) against a real gateway: `make test-airflow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from tests.acceptance.harness.house import House, running_house
from tests.conftest import free_port, wait_until

pytestmark = pytest.mark.timeout(900)

BIN = Path(os.environ.get("HEADRACE_TEST_AIRFLOW", ".venv/airflow/bin")).absolute()
START_S = 300  # of a standalone Airflow with a new database, on two busy cores
RUN_S = 240
LOOK_S = 0.5
ROWS = 300


@dataclass
class Airflow:
    """Airflow's REST API, and the gateway's for jobs."""

    api: str
    token: str
    gateway: str
    key: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method, f"{self.api}/api/v2/{path}", json=body, timeout=60,
            headers={"Authorization": f"Bearer {self.token}"},
        )  # fmt: skip
        assert answer.ok, answer.text
        return answer.json()

    def trigger(self, dag: str, corpus: Path, output: Path) -> str:
        conf = {"input": str(corpus), "output": str(output)}
        run = self.call("POST", f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def task(self, dag: str, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/score")
        return found

    def until(self, dag: str, run: str, *states: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            task = self.task(dag, run)
            return task if task["state"] in states else None

        found: dict[str, Any] = wait_until(there, RUN_S, f"{dag} to be {states}", LOOK_S)
        return found

    def jobs(self, output: Path) -> list[dict[str, Any]]:
        answer = requests.get(
            f"{self.gateway}/v1/jobs", timeout=60, headers={"Authorization": f"Bearer {self.key}"}
        )
        return [job for job in answer.json()["data"] if job["output"] == str(output)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture(scope="module")
def airflow(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home, port, api_port = tmp_path_factory.mktemp("home"), free_port(), free_port()
    key = house.run("headrace", "keys", "create", "--name", "airflow")
    house.start("gateway", "headrace", "serve", "--listen", f"127.0.0.1:{port}")
    settings = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
        "API__PORT": str(api_port),
        "API__BASE_URL": f"http://127.0.0.1:{api_port}",
    }
    connection = {"conn_type": "http", "host": f"http://127.0.0.1:{port}", "password": key}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")} | {
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_HEADRACE_DEFAULT": json.dumps(connection),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    with (home / "standalone.log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "airflow"), "standalone"], env=environment, cwd=home, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    api = f"http://127.0.0.1:{api_port}"
    try:
        token = wait_until(lambda: _token(api, process), START_S, "Airflow", LOOK_S)
        found = Airflow(api, token, f"http://127.0.0.1:{port}", key)
        dags = {"waits", "defers", "dies"}
        wait_until(
            lambda: {d["dag_id"] for d in found.call("GET", "dags")["dags"]} >= dags,
            START_S,
            "DAGs",
            LOOK_S,
        )
        yield found
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _token(api: str, process: subprocess.Popen[bytes]) -> str | None:
    assert process.poll() is None, "Airflow ended; see standalone.log"
    try:
        answer = requests.get(f"{api}/auth/token", timeout=10)
    except requests.ConnectionError:
        return None
    return str(answer.json()["access_token"]) if answer.ok else None


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": [f"text number {i}" for i in range(ROWS)]}), path)
    return path


@pytest.mark.parametrize("dag", ["waits", "defers"])
def test_a_job_is_a_task_and_its_numbers_are_the_result(
    airflow: Airflow, corpus: Path, tmp_path: Path, dag: str
) -> None:
    run = airflow.trigger(dag, corpus, tmp_path / "out")
    airflow.until(dag, run, "success")
    path = f"dags/{dag}/dagRuns/{run}/taskInstances/score/xcomEntries/return_value"
    result = airflow.call("GET", f"{path}?deserialize=true")["value"]
    assert (result["state"], result["rows"], result["ok"]) == ("finished", ROWS, ROWS)
    assert [job["state"] for job in airflow.jobs(tmp_path / "out")] == ["finished"]


def test_a_task_that_dies_after_it_submitted_makes_one_job(
    airflow: Airflow, corpus: Path, tmp_path: Path
) -> None:
    run = airflow.trigger("dies", corpus, tmp_path / "out")
    assert airflow.until("dies", run, "success")["try_number"] == 2
    assert len(airflow.jobs(tmp_path / "out")) == 1


def test_clearing_a_task_that_waits_cancels_its_job_and_the_next_try_resumes_it(
    airflow: Airflow, house: House, corpus: Path, tmp_path: Path
) -> None:
    house.stop("worker")
    run = airflow.trigger("defers", corpus, tmp_path / "out")
    airflow.until("defers", run, "deferred")
    wait_until(lambda: airflow.task("defers", run)["triggerer_job"], RUN_S, "the triggerer", LOOK_S)
    state = {"new_state": "failed"}
    airflow.call("PATCH", f"dags/defers/dagRuns/{run}/taskInstances/score", state)
    wait_until(
        lambda: [j["state"] for j in airflow.jobs(tmp_path / "out")] == ["cancelled"],
        RUN_S,
        "the end",
        LOOK_S,
    )
    house.start_worker()
    again = {"dry_run": False, "dag_run_id": run, "task_ids": ["score"], "only_failed": False,
             "reset_dag_runs": True}  # fmt: skip
    airflow.call("POST", "dags/defers/clearTaskInstances", again)
    airflow.until("defers", run, "success")
    assert [j["state"] for j in airflow.jobs(tmp_path / "out")] == ["finished"]


def test_what_the_gateway_refuses_fails_at_once(
    airflow: Airflow, corpus: Path, tmp_path: Path
) -> None:
    run = airflow.trigger("defers", tmp_path / "missing.parquet", tmp_path / "out")
    assert airflow.until("defers", run, "failed")["try_number"] == 1
