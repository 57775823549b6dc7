"""Images, compose and what people look at: what they say they are, as far as that can be checked without running it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from headrace.settings import Settings
from producers.cli import app as producer_app
from producers.scaling.metrics import METRICS as CONTROLLER_METRICS
from schemas.names.telemetry import METRICS, prometheus_series
from workers.cli import app as worker_app

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
IMAGES = ("headrace", "producer", "worker-cpu", "worker-gpu")

ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parse(image: str, args: list[str]) -> None:
    """Check that the entry point of this image accepts these arguments. Raises click's own errors."""
    door: Any = typer.main.get_command(worker_app if "headrace-worker" in image else producer_app)
    context = door.make_context(image, list(args))
    name, command, rest = door.resolve_command(context, list(args))
    command.make_context(name, list(rest), parent=context)


# -- images


@pytest.mark.parametrize("name", IMAGES)
def test_a_dockerfile_passes_its_linter_and_the_house_rules(name: str) -> None:
    path = DEPLOY / "docker" / f"{name}.Dockerfile"
    run(BIN / "hadolint", path)
    text = path.read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(stages) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", s) for s in stages)
    assert re.search(r"^USER 10001:10001$", text, re.M)
    assert re.search(r'^ENTRYPOINT \["headrace', text, re.M)  # exec form: signals arrive
    assert re.search(r"^HEALTHCHECK ", text, re.M)


def test_the_producers_image_has_no_torch() -> None:
    text = (DEPLOY / "docker" / "producer.Dockerfile").read_text()
    assert "pip install --constraint constraints.txt '.[gateway,s3,metrics,report]'" in text


def test_an_image_is_built_from_named_things_only() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    copied = {
        name
        for path in (DEPLOY / "docker").glob("*.Dockerfile")
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", path.read_text(), re.M)
        for name in line.split()
    }
    assert {f"!{name}" for name in copied} == {line for line in lines if line.startswith("!")}


@pytest.mark.parametrize("name", IMAGES)
def test_the_default_of_an_image_is_a_command_of_its_entry_point(name: str) -> None:
    text = (DEPLOY / "docker" / f"{name}.Dockerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.M)
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.M)
    assert json.loads(entry) == ["headrace-worker" if "worker" in name else "headrace"]
    if "--help" in (words := json.loads(command)):
        assert "Usage: headrace" in run(BIN / "headrace", *words)
    else:
        parse(f"headrace-{name}", words)


# -- compose


def test_every_command_of_the_compose_file_is_one() -> None:
    ours = [s for s in COMPOSE["services"].values() if s["image"].startswith("headrace-")]
    assert len(ours) == 5
    for service in ours:
        parse(service["image"], service["command"])


def test_workers_see_the_corpus_where_the_submitter_does() -> None:
    services = COMPOSE["services"]
    (corpus,) = (v for v in services["submit"]["volumes"] if ":/corpus" in v)
    assert services["submit"]["command"][1] == "/corpus"
    for name in ("worker-cpu", "worker-gpu"):
        assert corpus in services[name]["volumes"], name


def test_the_compose_file_fits_its_schema() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_redis_keeps_the_queue_and_takes_a_password() -> None:
    command = " ".join(COMPOSE["services"]["redis"]["command"])
    for needed in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"):
        assert needed in command
    assert ":?" in COMPOSE["services"]["redis"]["environment"]["REDIS_PASSWORD"]


def test_every_image_is_pinned_and_every_port_is_local() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.search(r":v?\d[\w.-]*$", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_no_secret_is_written_down() -> None:
    example = (DEPLOY / "compose.env.example").read_text()
    assert re.findall(r"^(\w*(?:PASSWORD|SECRET)\w*)=(.+)$", example, re.M) == []


def test_every_setting_that_is_used_is_one() -> None:
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    for path in [ROOT / "docker-compose.yml", *DEPLOY.rglob("*")]:
        if path.is_file():
            used = set(re.findall(r"\bHEADRACE_[A-Z0-9_]+", path.read_text()))
            assert used <= known, path


# -- what people look at


def known_metrics() -> set[str]:
    """Every metric under the name that Prometheus has it by."""
    return {series for name in METRICS for series in prometheus_series(name)}


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bheadrace_[a-z_]+", text))


def test_alerts_and_dashboards_ask_for_metrics_that_exist() -> None:
    for rule in ALERTS:
        assert metrics_in(rule["expr"]) <= known_metrics(), rule["alert"]
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                assert metrics_in(target["expr"]) <= known_metrics(), (path.name, panel["title"])


def labels_of(series: str) -> set[str]:
    """The labels that a series has in Prometheus."""
    (name,) = [n for n in METRICS if series in prometheus_series(n)]
    more = {"le"} if series.endswith("_bucket") else set()
    return {label.replace(".", "_") for label in METRICS[name].labels} | more


def test_dashboards_and_alerts_ask_for_labels_that_exist() -> None:
    queries = [(rule["alert"], rule["expr"], "") for rule in ALERTS]
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            queries += [
                (panel["title"], t["expr"], t.get("legendFormat", "")) for t in panel["targets"]
            ]
    for where, query, legend in queries:
        there = set().union(*map(labels_of, metrics_in(query)))
        for series, asked in re.findall(r"\b(headrace_[a-z_]+)\{([^}]*)\}", query):
            named = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", asked))
            assert named <= labels_of(series), (where, series)
        grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", query)
        for label in re.findall(r"\w+", " ".join(grouped)):
            assert label in there, (where, label)
        for label in re.findall(r"\{\{\s*(\w+)", legend):
            assert any(label in group for group in grouped), (where, legend)


ONLY_AN_ALERT = {"headrace.redis.up"}


@pytest.mark.parametrize("name", sorted(set(METRICS) - ONLY_AN_ALERT))
def test_every_metric_is_on_a_dashboard(name: str) -> None:
    boards = [p.read_text() for p in (DEPLOY / "grafana" / "dashboards").glob("*.json")]
    assert any(set(prometheus_series(name)) & metrics_in(board) for board in boards)


def test_what_is_on_no_dashboard_raises_an_alert() -> None:
    for name in ONLY_AN_ALERT:
        assert any(set(prometheus_series(name)) & metrics_in(rule["expr"]) for rule in ALERTS)


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = {
        f"docs/operations/runbooks/{p.name}"
        for p in (ROOT / "docs" / "operations" / "runbooks").glob("*.md")
    }
    assert {rule["annotations"]["runbook"] for rule in ALERTS} == pages
    for rule in ALERTS:
        page = (ROOT / rule["annotations"]["runbook"]).read_text()
        assert page.startswith(f"# {rule['alert']}\n")
        assert rule["expr"] in page, rule["alert"]
        assert "## Look" in page
        assert "## Do" in page


def test_every_alert_is_tested() -> None:
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    for rule in ALERTS:
        assert re.search(rf'alertname="{rule["alert"]}", ?alertstate="firing"', tests)
        assert f"alertname: {rule['alert']}," in tests


def test_dashboards_have_a_title_and_a_description_on_each_panel() -> None:
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        assert board["uid"] == path.stem
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            assert panel["title"]
            assert panel["description"]
            assert panel["datasource"]["uid"] == "prometheus"


def test_the_collector_uses_only_what_it_defines() -> None:
    config = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= config[kind].keys()
    assert set(config["service"]["extensions"]) <= config["extensions"].keys()


def test_the_page_on_scaling_names_every_metric_of_the_controller() -> None:
    page = (ROOT / "docs" / "operations" / "autoscaling.md").read_text()
    for name, metric in CONTROLLER_METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{name}` | {labels} | {metric.text} |" in page
