"""Everything under deploy/kubernetes, as it is written and as kustomize renders it."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from schemas.errors import ExitCode
from tests.unit.deployment.test_deploy import parse
from workers.fleet.supervisor import LEAVE_S

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = {"cpu": "cpu", "gpu": "gpu", "spot": "gpu"}
"""Each overlay, and the class of its workers."""
VERSIONS = ("1.32", "1.34")
CRDS = ROOT.parent / "shared" / "schemas"

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# It reads 1.5 MB of definitions for each document that it is asked about.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

Doc = dict[str, Any]


def written() -> list[Doc]:
    """The manifests as they stand in the files, patches and kustomizations left out."""
    found = [
        doc
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        for doc in yaml.load_all(path.read_text(), LOADER)
        if path.name != "kustomization.yaml"
    ]
    assert len(found) > 10
    return found


@cache
def _kustomize(folder: str) -> str:
    program = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
    done = subprocess.run(
        [program, "kustomize", str(KUBERNETES / folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(what: str) -> list[Doc]:
    """What `kubectl apply -k` would send, of an overlay or a folder; kubectl is of the extra `dev`."""
    folder = what if "/" in what else f"overlays/{what}"
    return list(yaml.load_all(_kustomize(folder), LOADER))


def check(doc: Doc) -> None:
    """Against Kubernetes' own schemas, strictly; KEDA's is checked by a test of its own."""
    if not doc["apiVersion"].startswith("keda.sh/"):
        for version in VERSIONS:
            kubernetes_validate.validate(doc, version, strict=True)


def closed(schema: Doc) -> Doc:
    """The schema with no field allowed that it does not name, as the API server prunes them."""
    found = copy.deepcopy(schema)
    if found.get("properties") and not found.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = False
        found["properties"] = {n: closed(s) for n, s in found["properties"].items()}
    if isinstance(found.get("items"), dict):
        found["items"] = closed(found["items"])
    return found


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


def worker_of(docs: list[Doc], overlay: str) -> Doc:
    """The worker's pod in an overlay."""
    spec: Doc = one(docs, "Deployment", f"headrace-worker-{OVERLAYS[overlay]}")["spec"]
    assert "replicas" not in spec, "applying it again would undo the scaler's work"
    pod: Doc = spec["template"]["spec"]
    return pod


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


def test_sign_on_renders_and_is_what_the_ingress_of_the_console_asks() -> None:
    docs = rendered("sign-on/")
    for doc in docs:
        check(doc)
    pod = one(docs, "Deployment", "headrace-sign-on")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert "--set-authorization-header=true" in container["args"]
    paths = one(docs, "Ingress", "headrace-sign-on")["spec"]["rules"][0]["http"]["paths"]
    asked = one(rendered("gateway/"), "Ingress", "headrace-console")["metadata"]["annotations"]
    assert container["image"].startswith("quay.io/oauth2-proxy/oauth2-proxy:v")
    assert f"{paths[0]['path']}/auth" in asked["nginx.ingress.kubernetes.io/auth-url"]


def test_the_gateway_renders_beside_an_overlay_and_is_reached_by_the_ingress_alone() -> None:
    docs = rendered("gateway/")
    for doc in docs:
        check(doc)
    labels = one(docs, "Deployment", "headrace-gateway")["spec"]["template"]["metadata"]["labels"]
    policy = one(docs, "NetworkPolicy", "headrace-gateway")["spec"]
    wanted = policy["podSelector"]["matchLabels"]
    assert wanted.items() <= labels.items()
    assert "replicas" not in one(docs, "Deployment", "headrace-gateway")["spec"]
    paths = [
        path["path"]
        for doc in docs
        if doc["kind"] == "Ingress"
        for path in doc["spec"]["rules"][0]["http"]["paths"]
    ]
    assert sorted(paths) == ["/console", "/v1"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_scaled_object_fits_kedas_own_schema(overlay: str) -> None:
    path = CRDS / "keda.sh_scaledobjects.yaml"
    if not path.is_file():
        pytest.skip("KEDA's CRDs are no part of this repository: put them into ../shared/schemas")
    (doc,) = (d for d in rendered(overlay) if d["kind"] == "ScaledObject")
    for version in yaml.safe_load(path.read_text())["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        spec = closed(schema["properties"]["spec"])
        jsonschema.validate(doc, schema)
        jsonschema.validate(doc["spec"], spec)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**doc["spec"], "fallbacks": {}}, spec)


def test_the_arguments_of_every_container_are_a_command_of_its_entry_point() -> None:
    everything = [doc for overlay in OVERLAYS for doc in rendered(overlay)] + written()
    foreign = "quay.io/"  # oauth2-proxy has a command line of its own
    containers = [pod["containers"][0] for pod in pods(everything)]
    seen = [found for found in containers if not found["image"].startswith(foreign)]
    assert len(seen) >= 12
    for container in seen:
        parse(container["image"], container["args"])


def test_two_device_classes_can_stand_in_one_cluster() -> None:
    both = [rendered(f"workers/{name}") for name in ("cpu", "gpu")]
    names = [{(d["kind"], d["metadata"]["name"]) for d in docs} for docs in both]
    assert names[0].isdisjoint(names[1])
    assert [k for k, _ in sorted(names[0])] == ["Deployment", "PodDisruptionBudget", "ScaledObject"]
    chosen = [
        d["spec"]["selector"]["matchLabels"]["headrace/device"]
        for docs in both
        for d in docs
        if "selector" in d["spec"]
    ]
    assert chosen == ["cpu", "cpu", "gpu", "gpu"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_nightly_job_goes_to_the_queue_that_is_served(overlay: str) -> None:
    docs = rendered(overlay)
    worker = worker_of(docs, overlay)
    (nightly,) = pods([d for d in docs if d["kind"] == "CronJob"])
    assert f"--queue={environment(worker)['HEADRACE_QUEUE']}" in nightly["containers"][0]["args"]


def test_a_submission_is_not_tried_again_in_vain() -> None:
    (job,) = (d["spec"] for d in written() if d["kind"] == "Job")
    (nightly,) = (d["spec"]["jobTemplate"]["spec"] for d in written() if d["kind"] == "CronJob")
    assert nightly["podFailurePolicy"] == job["podFailurePolicy"]
    codes = job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
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
    pod = worker_of(docs, overlay)
    settings = one(docs, "ConfigMap", "headrace-settings")["data"]
    grace_s = float(environment(pod).get("HEADRACE_GRACE_S", settings["HEADRACE_GRACE_S"]))
    pause_s = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    # after the grace the fleet waits, says it again, waits, and kills: workers.fleet.supervisor
    assert pod["terminationGracePeriodSeconds"] > grace_s + pause_s + 2 * LEAVE_S
    assert overlay != "spot" or pod["terminationGracePeriodSeconds"] <= 30


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_scaler_asks_for_the_queue_that_the_workers_serve(overlay: str) -> None:
    docs = rendered(overlay)
    pod = worker_of(docs, overlay)
    name = f"headrace-worker-{OVERLAYS[overlay]}"
    scaled = one(docs, "ScaledObject", name)["spec"]
    assert scaled["scaleTargetRef"] == {"name": name}
    (trigger,) = scaled["triggers"]
    url = trigger["metadata"]["url"]
    assert f"queue={environment(pod)['HEADRACE_QUEUE']}&" in url
    assert f"max={scaled['maxReplicaCount']}&" in url
    assert scaled["minReplicaCount"] == 0
    assert scaled["fallback"]["replicas"] >= 1
    assert trigger["metadata"]["valueLocation"] == "workers"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_worker_uses_as_many_threads_as_it_has_cores(overlay: str) -> None:
    pod = worker_of(rendered(overlay), overlay)
    assert (
        pod["containers"][0]["resources"]["limits"]["cpu"] == environment(pod)["HEADRACE_THREADS"]
    )


def test_a_spot_pod_is_drained_before_its_node_goes() -> None:
    """Karpenter leaves a pod alone that tolerates its taint for nodes on their way out."""
    keys = {t["key"] for t in worker_of(rendered("spot"), "spot")["tolerations"]}
    assert "karpenter.sh/disrupted" not in keys
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= keys


def test_a_gpu_pod_asks_for_a_gpu_and_may_go_where_one_is() -> None:
    pod = worker_of(rendered("gpu"), "gpu")
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert pod["containers"][0]["image"].startswith("headrace-worker-gpu:")
