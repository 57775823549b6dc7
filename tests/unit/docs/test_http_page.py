"""The page of HTTP routes names each one, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI

from producers.gateway import batches_api, jobs_api
from producers.gateway.files import files_api

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "http.md"


def test_every_route_is_on_the_page_once() -> None:
    app = FastAPI()
    for api in (files_api, batches_api, jobs_api):
        app.include_router(api.router)
    served = {
        f"{method.upper()} {path}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    named = re.findall(r"^\| `((?:GET|POST|DELETE) /v1/\S+)`", PAGE.read_text(), re.M)
    assert sorted(named) == sorted(served)
