"""One URL for redis-py, Celery and people: what each gets to see."""

from __future__ import annotations

import pytest

from headrace.queue.redis_connection import (
    celery_url,
    connect,
    mask_url,
)
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("redis://:p%2Fw@host/0", "redis://:p%2Fw@host/0"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("redis+socket:///r.sock?virtual_host=3", "redis+socket:///r.sock?virtual_host=3"),
        ("unix://:pw@/r.sock?db=1", "redis+socket://:pw@/r.sock?virtual_host=1"),
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
        (
            "rediss://host/0?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
            "rediss://host/0?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
        ),
    ],
)
def test_celery_gets_the_spelling_that_kombu_takes(url: str, expected: str) -> None:
    assert celery_url(url) == expected
    assert celery_url(expected) == expected


@pytest.mark.parametrize(
    "url", ["unix:///run/r.sock?db=2", "redis+socket:///run/r.sock?virtual_host=2"]
)
def test_redis_py_understands_sockets(url: str) -> None:
    options = connect(url, name="t").connection_pool.connection_kwargs
    assert (options["path"], options["db"], options["client_name"]) == ("/run/r.sock", 2, "t")


def test_a_connection_notices_that_the_other_side_is_gone() -> None:
    options = connect("redis://:pw@host:7000/3", name="t").connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("host", 7000, 3)
    assert options["socket_timeout"]
    assert options["socket_connect_timeout"]
    assert options["socket_keepalive"]
    assert options["health_check_interval"]
    assert not options["decode_responses"]


@pytest.mark.parametrize(
    "url",
    ["", "host:6379", "amqp://host", "redis:///0", "unix://", "unix:///", "unix://run/x.sock",
     "redis://host:port/0", "redis://host/db", "redis://host:6379/0?socket_timeout=soon"],
)  # fmt: skip
def test_what_is_no_url_of_redis_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        connect(url, name="t")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("redis://user:secret@host/0", "redis://user:***@host/0"),
        ("redis://user:se/cr?e#t@x@host/0", "redis://user:***@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("unix://:secret@/run/r.sock?db=1", "unix://:***@/run/r.sock?db=1"),
        ("unix:///run/r.sock?password=secret&db=1", "unix:///run/r.sock?password=***&db=1"),
        ("rediss://host/0?ssl_password=secret", "rediss://host/0?ssl_password=***"),
        ("secret@host", "***"),
    ],
)
def test_a_password_is_never_shown(url: str, expected: str) -> None:
    assert mask_url(url) == expected


@pytest.mark.parametrize(
    "url", ["redis://u:sec/ret@h/0", "redis://u:12/ret@h/0", "amqp://u:secret@h"]
)
def test_an_error_does_not_repeat_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        connect(url, name="t")
    assert refused.value.__cause__ is None
    for piece in ("secret", "sec", "ret@"):
        assert piece not in str(refused.value)
