"""A client of the gateway: submit, look up, resume, cancel. Does not import headrace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseHook

OVER = frozenset({"finished", "failed", "cancelled"})
TIMEOUT_S = 120.0
"""Timeout of a request; a submission lists and plans the input before it answers."""


class GatewayError(AirflowException):
    """The gateway did not answer, or with 429 or 5xx: a retry may help."""


class GatewayHook(BaseHook):
    """A connection of the type HTTP: host (or a whole address), port, and the API key as password.

    Args:
        conn_id: name of the Airflow connection.
    """

    default_conn_name = "headrace_default"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    def client_options(self) -> dict[str, Any]:
        """Address, key and time limit, for httpx's client or its asynchronous one."""
        conn = self.get_connection(self.conn_id)
        host = conn.host or "127.0.0.1"
        base = host if "://" in host else f"{conn.schema or 'http'}://{host}"
        base = base if conn.port is None else f"{base}:{conn.port}"
        headers = {"Authorization": f"Bearer {conn.password}"} if conn.password else {}
        return {"base_url": f"{base}/v1/", "headers": headers, "timeout": TIMEOUT_S}

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request.

        Raises:
            GatewayError: no answer, 429 or 5xx. AirflowFailException: any other refusal; the same
                request would be refused again, so the task is not retried.
        """
        try:
            with httpx.Client(**self.client_options()) as client:
                return answer_in(client.request(method, path, json=body))
        except httpx.TransportError as error:
            raise GatewayError(f"the gateway does not answer: {error!r}") from error

    def submit(
        self, input: str | list[str], output: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Submit a job. The same submission again is the same job; one that stopped is resumed."""
        made = self.call("POST", "jobs", {"input": input, "output": output, **options})
        for warning in made["warnings"]:
            self.log.warning("%s", warning)
        if not made["new"] and self.job(made["id"])["state"] in ("failed", "cancelled"):
            self.call("POST", f"jobs/{made['id']}/resume")
        return made

    def job(self, job_id: str) -> dict[str, Any]:
        """The job's state and counts: `state`, `rows`, `rows_done`, `errors` and more."""
        return self.call("GET", f"jobs/{job_id}")

    def cancel(self, job_id: str) -> None:
        """Cancel the job; committed parts stay."""
        self.call("POST", f"jobs/{job_id}/cancel")


def answer_in(response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON.

    Raises:
        GatewayError, AirflowFailException: as `GatewayHook.call`.
    """
    if response.is_success:
        found: dict[str, Any] = response.json()
        return found
    try:
        why = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        why = response.text[:200]
    may_pass = response.status_code in (408, 429) or response.is_server_error
    kind = GatewayError if may_pass else AirflowFailException
    raise kind(f"the gateway refused ({response.status_code}): {why}")
