"""Everything under deploy/ is what it says it is, as far as that can be told without running it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from producers.scaling_metrics import METRICS as CONTROLLER_METRICS
from schemas.errors import ExitCode
from schemas.settings import Settings
from schemas.telemetry.names import METRICS, prometheus_series

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("cpu", "gpu", "spot")
VERSIONS = ("1.32", "1.34")
BIN = Path(sys.executable).parent
CRDS = ROOT.parent / "shared" / "schemas"

Doc = dict[str, Any]

ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- Kubernetes


def written() -> list[Doc]:
    """The manifests as they stand in the files, patches and kustomizations left out."""
    found = [
        doc
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        for doc in yaml.safe_load_all(path.read_text())
        if path.name != "kustomization.yaml"
    ]
    assert len(found) > 10
    return found


def rendered(overlay: str) -> list[Doc]:
    """What `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here: only the files are checked, not their patches")
    text = run("kubectl", "kustomize", KUBERNETES / "overlays" / overlay)
    return list(yaml.safe_load_all(text))


def check(doc: Doc) -> None:
    """Against Kubernetes' own schemas, strictly; KEDA's where its CRDs are at hand."""
    if doc["apiVersion"].startswith("keda.sh/"):
        for schema in _keda(doc["kind"]):
            jsonschema.validate(doc, schema)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(doc, version, strict=True)


def _keda(kind: str) -> Iterator[Doc]:
    path = CRDS / f"keda.sh_{kind.lower()}s.yaml"
    if path.is_file():
        for version in yaml.safe_load(path.read_text())["spec"]["versions"]:
            yield version["schema"]["openAPIV3Schema"]


def pods(docs: list[Doc]) -> list[Doc]:
    """The pod templates in them."""
    found = []
    for doc in docs:
        spec = doc.get("spec", {})
        if doc["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if doc["kind"] in ("Deployment", "CronJob", "Job"):
            found.append(spec["template"]["spec"])
    return found


def one(docs: list[Doc], kind: str, name: str) -> Doc:
    (found,) = (d for d in docs if d["kind"] == kind and d["metadata"].get("name") == name)
    return found


def environment(pod: Doc) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in pod["containers"][0]["env"]}


def test_every_manifest_fits_its_schema() -> None:
    for doc in written():
        check(doc)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_renders_to_what_fits_its_schema(overlay: str) -> None:
    for doc in rendered(overlay):
        check(doc)
        assert doc["kind"] == "Namespace" or doc["metadata"]["namespace"] == "headrace"


def test_the_job_by_hand_is_not_tried_again_in_vain() -> None:
    (job,) = yaml.safe_load_all((KUBERNETES / "job" / "job.yaml").read_text())
    codes = job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert {ExitCode(code) for code in codes}.isdisjoint({ExitCode.BROKER, ExitCode.STORAGE})


def test_every_pod_is_safe_and_holds_no_secret() -> None:
    for pod in pods(written()):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            safe = container["securityContext"]
            assert safe["readOnlyRootFilesystem"] is True
            assert safe["allowPrivilegeEscalation"] is False
            assert safe["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= container["resources"].keys()
            assert "secretKeyRef" in container["env"][0]["valueFrom"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_of_a_pod_fits_the_drain(overlay: str) -> None:
    docs = rendered(overlay)
    pod = one(docs, "Deployment", "headrace-worker")["spec"]["template"]["spec"]
    settings = one(docs, "ConfigMap", "headrace-settings")["data"]
    grace_s = float(environment(pod).get("HEADRACE_GRACE_S", settings["HEADRACE_GRACE_S"]))
    pause_s = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    leave_s = 10  # LEAVE_S of workers.fleet, for a worker that leaves by itself
    assert pod["terminationGracePeriodSeconds"] >= grace_s + pause_s + leave_s


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_scaler_asks_for_the_queue_that_the_workers_serve(overlay: str) -> None:
    docs = rendered(overlay)
    pod = one(docs, "Deployment", "headrace-worker")["spec"]["template"]["spec"]
    scaled = one(docs, "ScaledObject", "headrace-worker")["spec"]
    (trigger,) = scaled["triggers"]
    url = trigger["metadata"]["url"]
    assert f"queue={environment(pod)['HEADRACE_QUEUE']}&" in url
    assert f"max={scaled['maxReplicaCount']}&" in url
    assert scaled["minReplicaCount"] == 0
    assert scaled["fallback"]["replicas"] >= 1
    assert trigger["metadata"]["valueLocation"] == "workers"
    assert "replicas" not in one(docs, "Deployment", "headrace-worker")["spec"]


def test_a_gpu_pod_asks_for_a_gpu_and_may_go_where_one_is() -> None:
    pod = one(rendered("gpu"), "Deployment", "headrace-worker")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert pod["containers"][0]["image"].startswith("headrace-worker-gpu:")


# -- images


@pytest.mark.parametrize("name", ["producer", "worker-cpu", "worker-gpu"])
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
    assert "pip install --constraint constraints.txt '.[s3,metrics]'" in text


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


# -- compose


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


SHOWN = (
    "headrace_device_memory_usage_bytes", "headrace_device_utilization_ratio",
    "headrace_batch_fill_bucket", "headrace_batch_halvings_total", "headrace_lease_losses_total",
    "headrace_oldest_chunk_seconds", "headrace_errors_total", "headrace_reuse_hits_total",
)  # fmt: skip


@pytest.mark.parametrize("metric", SHOWN)
def test_what_operations_ask_for_is_on_a_dashboard(metric: str) -> None:
    boards = [p.read_text() for p in (DEPLOY / "grafana" / "dashboards").glob("*.json")]
    assert any(metric in metrics_in(board) for board in boards)


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = {f"docs/runbooks/{p.name}" for p in (ROOT / "docs" / "runbooks").glob("*.md")}
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
    page = (ROOT / "docs" / "autoscaling.md").read_text()
    for name, metric in CONTROLLER_METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{name}` | {labels} | {metric.text} |" in page
