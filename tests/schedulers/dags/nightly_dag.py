"""The DAG of the test: one task for each way to wait; read by Airflow, with no headrace installed."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from headrace_airflow import GatewayHook, HeadraceJobOperator


class DiesOnce(HeadraceJobOperator):
    """Its process is killed between the submission and what Airflow stores of it, the first time."""

    def execute(self, context: Any) -> dict[str, Any]:
        flag = Path(self.output_uri + ".died")
        if not flag.exists():
            GatewayHook(self.conn_id).submit(self.input_uri, self.output_uri, self.options)
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(context)


for name, kind, is_deferrable in (
    ("waits", HeadraceJobOperator, False),
    ("defers", HeadraceJobOperator, True),
    ("dies", DiesOnce, True),
):
    with DAG(dag_id=name, schedule=None) as dag:
        kind(
            task_id="score",
            input_uri="{{ dag_run.conf.input }}",
            output_uri="{{ dag_run.conf.output }}",
            options={"model": "tiny", "task": "feature-extraction"},
            deferrable=is_deferrable,
            poll_s=0.5,
            retries=2,
            retry_delay=timedelta(seconds=1),
        )
    globals()[name] = dag
