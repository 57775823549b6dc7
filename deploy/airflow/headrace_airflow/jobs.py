"""An operator that runs a job, and a sensor for a job that was submitted elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    BaseSensorOperator,
    conf,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

from headrace_airflow.gateway import OVER, GatewayError, GatewayHook, answer_in


class HeadraceJobOperator(BaseOperator):
    """Submit a job and wait for its end; returns its state and counts (XCom).

    The same arguments are the same job. So a retry, or a worker that died after the submission,
    joins the job that is there, and a job that stopped is resumed.

    Args:
        input_uri: a file, folder, glob or s3:// prefix, or several. Templated.
        output_uri: folder or s3:// prefix for the results. Templated.
        options: options of `headrace submit` by name, such as `model` and `id_column`. Templated.
        max_error_rows: more error rows than this fail the task; None accepts any number.
        conn_id: the connection to the gateway.
        deferrable: wait in the triggerer, without a worker's slot.
        poll_s: seconds between two looks.
    """

    template_fields: Sequence[str] = ("input_uri", "output_uri", "options")

    def __init__(
        self,
        *,
        input_uri: str | list[str],
        output_uri: str,
        options: Mapping[str, Any] | None = None,
        max_error_rows: int | None = None,
        conn_id: str = GatewayHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_s: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.options = dict(options or {})
        self.max_error_rows = max_error_rows
        self.conn_id = conn_id
        self.deferrable = deferrable
        self.poll_s = poll_s
        self.job_id: str | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        hook = GatewayHook(self.conn_id)
        self.job_id = hook.submit(self.input_uri, self.output_uri, self.options)["id"]
        context["ti"].xcom_push(key="job_id", value=self.job_id)
        if self.deferrable:
            self.defer(
                trigger=HeadraceJobTrigger(self.job_id, self.conn_id, self.poll_s),
                method_name="execute_complete",
            )
        while (job := hook.job(self.job_id))["state"] not in OVER:
            self.log.info("%s of %s rows", job["rows_done"], job["rows"])
            time.sleep(self.poll_s)
        return self._result(job)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        if "refused" in event:
            raise AirflowFailException(event["refused"])
        return self._result(event)

    def on_kill(self) -> None:
        if self.job_id is not None:
            GatewayHook(self.conn_id).cancel(self.job_id)

    def _result(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["state"] != "finished":
            raise GatewayError(f"the job {job['state']}: {job['reason'] or 'no reason given'}")
        if self.max_error_rows is not None and job["errors"] > self.max_error_rows:
            raise AirflowFailException(
                f"{job['errors']} error rows, {self.max_error_rows} allowed: {job['errors_by_type']}"
            )
        return job


class HeadraceJobTrigger(BaseTrigger):
    """Fires with the job's state and counts when it is over; waits if the gateway does not answer."""

    def __init__(self, job_id: str, conn_id: str, poll_s: float) -> None:
        super().__init__()
        self.job_id, self.conn_id, self.poll_s = job_id, conn_id, poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        own = {"job_id": self.job_id, "conn_id": self.conn_id, "poll_s": self.poll_s}
        return f"{type(self).__module__}.{type(self).__name__}", own

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with await self._client() as client:
            while True:
                try:
                    job = answer_in(await client.get(f"jobs/{self.job_id}"))
                except (GatewayError, httpx.TransportError) as error:
                    self.log.warning("looked in vain: %r", error)
                except AirflowFailException as error:
                    yield TriggerEvent({"refused": str(error)})
                    return
                else:
                    if job["state"] in OVER:
                        yield TriggerEvent(job)
                        return
                await asyncio.sleep(self.poll_s)

    async def on_kill(self) -> None:
        """Cancel the job when a person clears or ends the task that waits (Airflow 3.3 and later)."""
        async with await self._client() as client:
            answer_in(await client.post(f"jobs/{self.job_id}/cancel"))

    async def _client(self) -> httpx.AsyncClient:
        options = await asyncio.to_thread(GatewayHook(self.conn_id).client_options)
        return httpx.AsyncClient(**options)


class HeadraceJobSensor(BaseSensorOperator):
    """Waits until a job that was submitted elsewhere is finished; fails if the job failed.

    Args:
        job_id: as `POST /v1/jobs` returned it. Templated.
        conn_id: the connection to the gateway.
    """

    template_fields: Sequence[str] = ("job_id",)

    def __init__(
        self, *, job_id: str, conn_id: str = GatewayHook.default_conn_name, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.conn_id = conn_id

    def poke(self, context: Any) -> bool:
        job = GatewayHook(self.conn_id).job(self.job_id)
        if job["state"] in ("failed", "cancelled"):
            raise AirflowFailException(f"the job {job['state']}: {job['reason']}")
        return bool(job["state"] == "finished")
