"""Broker URLs that name sentinels."""

from __future__ import annotations

import pytest

from headrace.queue.celery_config import config_for
from headrace.queue.redis_connection import celery_url, connect
from headrace.queue.sentinel_url import SentinelUrl, parse
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis+sentinel://a/night", SentinelUrl((("a", 26379),), "night", 0, {}, {})),
        (
            "redis+sentinel://me:p%2Fw@a:1,b:2,[::1]:3/night/7",
            SentinelUrl(
                (("a", 1), ("b", 2), ("::1", 3)), "night", 7,
                {"username": "me", "password": "p/w"}, {},
            ),
        ),
        (
            "redis+sentinel://:x@a/n?sentinel_username=s&sentinel_password=t",
            SentinelUrl(
                (("a", 26379),), "n", 0, {"password": "x"}, {"username": "s", "password": "t"}
            ),
        ),
    ],
)  # fmt: skip
def test_its_parts(url: str, parts: SentinelUrl) -> None:
    assert parse(url, "shown") == parts


@pytest.mark.parametrize(
    "rest",
    ["", "a", "a/", "/night", "a,/night", "a:b/night", "a:70000/night", "a/night/x", "a/night/0/y",
     "a/night?db=3", "[::1/"],
)  # fmt: skip
def test_another_form_is_refused(rest: str) -> None:
    with pytest.raises(ConfigError):
        connect(f"redis+sentinel://{rest}", name="test")


def test_celery_gets_an_address_a_sentinel_and_the_name() -> None:
    url = "redis+sentinel://me:p%2Fw@a:1,[::1]/night/7?sentinel_password=t"
    assert celery_url(url) == "sentinel://me:p%2Fw@a:1/7;sentinel://me:p%2Fw@[::1]:26379/7"
    options = config_for(url, None)["broker_transport_options"]
    assert options["master_name"] == "night"
    assert options["sentinel_kwargs"]["password"] == "t"
    assert options["sentinel_kwargs"]["socket_timeout"] == options["socket_timeout"]


def test_with_tls_the_primary_and_the_sentinels_are_reached_by_tls() -> None:
    url = "rediss+sentinel://:pw@a/night?ssl_ca_certs=/ca.pem&ssl_check_hostname=false"
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    client = connect(url, name="test")
    given = client.connection_pool.connection_kwargs
    assert client.connection_pool.connection_class.__name__ == "SentinelManagedSSLConnection"
    assert {name: given[name] for name in tls} == tls
    settings = config_for(url, None)
    assert settings["broker_use_ssl"] == tls
    asked = settings["broker_transport_options"]["sentinel_kwargs"]
    assert {name: asked[name] for name in (*tls, "ssl")} == {**tls, "ssl": True}


def test_the_sentinels_may_be_asked_without_tls() -> None:
    settings = config_for("rediss+sentinel://a/night?sentinel_tls=false", None)
    assert settings["broker_use_ssl"] == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    assert "ssl" not in settings["broker_transport_options"]["sentinel_kwargs"]
    assert "broker_use_ssl" not in config_for("redis+sentinel://a/night", None)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rediss+sentinel://a/night?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss+sentinel://a/night?sentinel_tls=maybe", "true or false"),
        ("rediss+sentinel://a/night?ssl_ca=/x", "ssl_ca is no option of it; known: .*ssl_ca_certs"),
        ("redis+sentinel://a/night?ssl_ca_certs=/x", "ssl_ca_certs is no option"),
    ],
)
def test_options_of_tls_that_are_none_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        connect(url, name="test")


def test_a_message_about_it_shows_no_password() -> None:
    with pytest.raises(ConfigError) as refused:
        connect("redis+sentinel://me:secret@a/?sentinel_password=other", name="test")
    assert "secret" not in str(refused.value)
    assert "other" not in str(refused.value)
