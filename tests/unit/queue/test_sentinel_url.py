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


def test_a_message_about_it_shows_no_password() -> None:
    with pytest.raises(ConfigError) as refused:
        connect("redis+sentinel://me:secret@a/?sentinel_password=other", name="test")
    assert "secret" not in str(refused.value)
    assert "other" not in str(refused.value)
