"""axe finds nothing on any page of the console, light and dark, wide and as on a phone.

`make test-console-axe` fetches axe-core from npm and names it in HEADRACE_TEST_AXE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.models.registry import open_model_registry
from headrace.output.job_record import require_job
from headrace.storage.local import LocalStore
from schemas.records.job import ModelRef
from tests.integration.gateway.conftest import House, MakeHouse
from tests.integration.gateway.test_console import submitted
from tests.integration.gateway.test_sockets import served
from tests.system.browser import Browser, browser
from tests.unit.small_job import finish, score

RELOADS = "meta-refresh"
"""A page that loads again by itself. WCAG 2.2.1 allows it where it can be turned off, which axe cannot
see: there the link has to be, and the page behind it is looked at too."""
STOP = 'a[href="?live=0"]'
AXE = Path(os.environ.get("HEADRACE_TEST_AXE", "axe.min.js"))


@pytest.fixture
def house(make_house: MakeHouse, tmp_path: Path) -> House:
    """A gateway with a job that runs, two that ended, and a model with an alias."""
    return make_house(needs_keys=False, model_registry=str(tmp_path / "models"))


def pages(house: House, tmp_path: Path) -> Iterator[str]:
    """The addresses of all pages, and of each in its states."""
    client = house.clients[""]
    jobs = [submitted(house, client, tmp_path, name) for name in ("running", "a", "b")]
    for name in ("a", "b"):
        store = LocalStore(tmp_path / name)
        score(store, require_job(store))
        finish(store, require_job(store))
    registry = open_model_registry(house.gateway.settings)
    registry.register("reviews", ModelRef(uri="/m", revision="sha256:1"), task="fake")
    registry.promote("reviews", "champion", 1)
    yield from ("jobs", "jobs?state=running", "submit", "workers", "models", "comparisons")
    yield from (f"jobs/{id}" for id in jobs[:2])
    yield from ("workers?live=0", f"jobs/{jobs[0]}?live=0")
    yield f"jobs/{jobs[1]}?row=in-1"
    yield f"comparisons?a={jobs[1]}&b={jobs[2]}"
    yield "jobs/0000000000000000-00000000"  # an error


def faults_of(page: Browser, url: str, *, dark: bool, width: int) -> list[str]:
    """What axe finds at the address, a line for each element."""
    page.open(url, width=width, dark=dark)
    page.evaluate(AXE.read_text() + "; true")
    asked = "axe.run(document).then(r => r.violations)"
    found: Any = page.ask(
        "Runtime.evaluate", expression=asked, awaitPromise=True, returnByValue=True
    )
    can_stop = page.evaluate(f"document.querySelector('{STOP}') !== null")
    return [
        f"{url} ({'dark' if dark else 'light'}, {width}): {rule['id']}: {node['html']} "
        f"{node['failureSummary']}"
        for rule in found["result"]["value"]
        if not (can_stop and rule["id"] == RELOADS)
        for node in rule["nodes"]
    ]


@pytest.mark.timeout(600)
def test_axe_finds_nothing_on_any_page(house: House, tmp_path: Path) -> None:
    found: list[str] = []
    with served(house) as (host, port), browser(tmp_path / "profile") as page:
        urls = [f"http://{host}:{port}/console/{path}" for path in pages(house, tmp_path)]
        for url in urls:
            for dark in (False, True):
                for width in (1200, 390):
                    found += faults_of(page, url, dark=dark, width=width)
    assert not found, "\n".join(found)
