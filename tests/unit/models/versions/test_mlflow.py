"""`models:/` addresses in an MLflow server, and what goes wrong on the way to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.models.mlflow import MlflowRegistry
from headrace.models.mlflow_api import MlflowApi
from headrace.models.named import version_of
from headrace.models.port import ModelAddress
from headrace.models.registry import open_model_registry
from headrace.settings import load_settings
from schemas.errors import ConfigError, ModelRegistryError, StorageError
from tests.unit.models.versions.mlflow_contract import TASK, MlflowContract, Registered, model
from tests.unit.models.versions.mlflow_server import MlflowServer, running_mlflow_server

Running = tuple[MlflowServer, str]


@pytest.fixture
def running() -> Iterator[Running]:
    with running_mlflow_server() as found:
        yield found


@pytest.fixture
def three(running: Running) -> Registered:
    return Registered(MlflowRegistry(f"mlflow+{running[1]}"), "reviews")


class TestMlflow(MlflowContract):
    """Against a server in memory."""


def test_a_job_takes_address_and_digest_from_the_server(
    running: Running, three: Registered
) -> None:
    three.registry.promote("reviews", "champion", 2)
    settings = load_settings(
        model="models:/reviews@champion", model_registry=f"mlflow+{running[1]}", task=TASK
    )
    found = version_of(settings)
    assert found is not None
    assert found.model == model(2)
    with pytest.raises(ModelRegistryError, match="registered for text-classification"):
        version_of(settings.model_copy(update={"task": "feature-extraction"}))


@pytest.mark.parametrize("tag", ["negative, positive", '{"0": "a"}', "[1, 2]", "null", ""])
def test_a_tag_of_labels_that_somebody_else_wrote_is_left_out(tag: str, three: Registered) -> None:
    tags = [{"key": "headrace.labels", "value": tag}]
    body = {"name": "reviews", "source": "s3://bucket/model", "tags": tags}
    three.registry._api.post("model-versions/create", body)
    found = three.registry.find(ModelAddress("reviews", version=4))
    assert (found.model.uri, found.labels) == ("s3://bucket/model", ())
    assert len(three.registry.versions("reviews")) == 4


def test_a_version_of_another_client_has_no_task_and_no_digest(
    running: Running, three: Registered
) -> None:
    state, url = running
    state.logged["m-0af3"] = "s3://mlflow/1/models/m-0af3/artifacts"
    for source in ("s3://bucket/model", "models:/m-0af3"):
        three.registry._api.post("model-versions/create", {"name": "reviews", "source": source})
    settings = load_settings(model="models:/reviews/4", model_registry=f"mlflow+{url}", task=TASK)
    found = version_of(settings)
    assert found is not None
    assert (found.model.uri, found.model.revision, found.task) == ("s3://bucket/model", "", "")
    logged = three.registry.find(ModelAddress("reviews", version=5))
    assert logged.model.uri == "s3://mlflow/1/models/m-0af3/artifacts"


def test_a_version_that_is_not_ready_is_left_out(running: Running, three: Registered) -> None:
    running[0].versions["reviews", "2"]["status"] = "PENDING_REGISTRATION"
    assert [v.version for v in three.registry.versions("reviews")] == [1, 3]


@pytest.mark.parametrize(
    ("login", "token", "sent"),
    [
        ("", None, None),
        ("", "abc", "Bearer abc"),
        ("", "ann:pass", "Basic YW5uOnBhc3M="),
        ("ann:p%40ss@", None, "Basic YW5uOnBAc3M="),
    ],
)
def test_who_one_is(running: Running, login: str, token: str | None, sent: str | None) -> None:
    state, url = running
    address = f"mlflow+{url.replace('://', f'://{login}')}"
    settings = load_settings(model_registry=address, model_registry_token=token)
    registry = open_model_registry(settings)
    assert registry.names() == []
    assert state.authorizations == [sent]


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (200, b"<html>", StorageError, "no JSON object"),
        (200, b"[1]", StorageError, "no JSON object"),
        (503, b"busy", StorageError, "fails .HTTP 503"),
        (403, b"no", ModelRegistryError, "HEADRACE_MODEL_REGISTRY_TOKEN"),
        (
            400,
            b'{"error_code": "X", "message": "bad name"}',
            ModelRegistryError,
            "refuses: bad name",
        ),
    ],
)
def test_an_answer_that_is_none_is_said_in_words(
    running: Running, status: int, body: bytes, error: type[Exception], words: str
) -> None:
    running[0].override = lambda path: (status, body)
    with pytest.raises(error, match=words):
        MlflowRegistry(f"mlflow+{running[1]}").names()


def test_a_server_that_is_away_may_come_back() -> None:
    with running_mlflow_server() as (_, url):
        pass
    with pytest.raises(StorageError, match="does not answer") as refused:
        MlflowRegistry(f"mlflow+{url.replace('://', '://ann:secret@')}").names()
    assert "secret" not in str(refused.value)


def test_an_address_without_a_host_is_refused() -> None:
    wrong = ("", "host?x=1", "host:x", "host:99999", "[::1")
    for uri in (f"mlflow+http://{it}" for it in wrong):
        with pytest.raises(ConfigError, match=r"mlflow\+http://HOST"):
            MlflowApi(uri)


def test_a_reference_has_no_place_in_mlflow(three: Registered) -> None:
    version = three.registry.find(ModelAddress("reviews", version=1))
    assert three.registry.profile(version) is None
    with pytest.raises(ModelRegistryError, match="leave --reference"):
        three.registry.keep_profile(version, b"x")
