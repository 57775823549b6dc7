"""Whatever the OpenAPI page allows, and what it does not: no answer is a fault of the gateway."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.conftest import House, MakeHouse

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


def test_the_page_describes_the_routes_and_our_errors(gate: House) -> None:
    page = gate.clients[""].get("/openapi.json").json()
    assert {"/v1/files", "/v1/batches/{batch_id}/cancel", "/v1/jobs/{job_id}/events"} <= set(
        page["paths"]
    )
    assert "HTTPValidationError" not in page["components"]["schemas"]
    answers = page["paths"]["/v1/batches"]["post"]["responses"]
    assert {"200", "401", "403", "404", "413", "429"} <= set(answers)


def test_no_request_that_the_page_knows_is_answered_with_500(make_house: MakeHouse) -> None:
    gate = make_house(needs_keys=False)
    client = gate.clients[""]
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    seen: list[int] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        cases: Any = operation.as_strategy()

        @EXAMPLES
        @given(case=cases)
        def ask(case: Any) -> None:
            if case.path.endswith("/events"):
                return  # followed until the job ends
            sent = case.as_transport_kwargs(base_url=str(client.base_url))
            made = requests.Request(**sent).prepare()
            body, headers = made.body or b"", dict(made.headers)
            content = body.encode() if isinstance(body, str) else body
            answer = client.request(
                str(made.method), str(made.url), content=content, headers=headers
            )
            seen.append(answer.status_code)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text

        ask()
    assert len(seen) > 200


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/jobs", "/v1/files"])
def test_a_body_of_any_bytes_is_answered(gate: House, path: str) -> None:
    client = gate.client("fuzz")

    @EXAMPLES
    @given(body=st.binary(max_size=200), kind=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=x", "text/plain", "multipart/form-data"]
    ))  # fmt: skip
    def send(body: bytes, kind: str) -> None:
        answer = client.post(path, content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 413), answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    send()
