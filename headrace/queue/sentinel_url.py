"""The URL of a Redis whose primary is found through Redis Sentinel.

`redis+sentinel://[user:password@]host[:port][,host[:port]…]/NAME[/DATABASE]`, where the hosts are
sentinels and NAME is the one under which they watch the primary. User and password are those of the
primary; `?sentinel_username=…&sentinel_password=…` are the sentinels' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from schemas.errors import ConfigError

SCHEME = "redis+sentinel"
DEFAULT_PORT = 26379
FORM = f"{SCHEME}://host:{DEFAULT_PORT},host:{DEFAULT_PORT}/NAME, with the primary's name"
_OWN = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class SentinelUrl:
    """Where the sentinels are, and which primary they are asked for."""

    sentinels: tuple[tuple[str, int], ...]
    primary: str
    database: int
    login: dict[str, str]
    """`username` and `password` of the primary, where given."""
    sentinel_login: dict[str, str]
    """The same, of the sentinels."""

    def kombu_url(self) -> str:
        """One address a sentinel, as kombu wants them; the primary's name is an option there."""
        user, password = self.login.get("username", ""), self.login.get("password")
        login = "" if password is None else f"{quote(user, safe='')}:{quote(password, safe='')}@"
        return ";".join(
            f"sentinel://{login}{_bracketed(host)}:{port}/{self.database}"
            for host, port in self.sentinels
        )

    def kombu_options(self, timeouts: dict[str, Any]) -> dict[str, Any]:
        """What kombu needs beside its URL; for `timeouts` see `sentinel_options`."""
        return {"master_name": self.primary, "sentinel_kwargs": self.sentinel_options(timeouts)}

    def sentinel_options(self, timeouts: dict[str, Any]) -> dict[str, Any]:
        """Options of redis-py for the connection to each sentinel, with these `timeouts`.

        One that is away is asked once more and then left for the next: redis-py's own default is to
        ask it four times in some ten seconds.
        """
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return timeouts | self.sentinel_login | {"retry": Retry(NoBackoff(), 1)}


def is_sentinel(url: str) -> bool:
    """Whether a broker URL names sentinels."""
    return url.partition("://")[0].lower() == SCHEME


def parse(url: str, shown: str) -> SentinelUrl:
    """The parts of such a URL; `shown` is the URL as messages may show it.

    Raises:
        ConfigError: it has another form.
    """
    rest, _, query = url.partition("://")[2].partition("?")
    login, _, rest = rest.rpartition("@")
    hosts, *path = rest.split("/")
    name, database, *more = [*path, "", ""] if len(path) < 2 else [*path]
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(_OWN))
    if unknown:
        raise ConfigError(f"broker URL {shown}: {unknown[0]} is no option of it; known: {_OWN}")
    if not name or any(more) or not (database or "0").isdecimal():
        raise ConfigError(f"broker URL {shown}: must be {FORM}")
    user, colon, password = login.partition(":")
    given = {"username": unquote(user), "password": unquote(password) if colon else ""}
    return SentinelUrl(
        sentinels=tuple(_host_and_port(host, shown) for host in hosts.split(",")),
        primary=unquote(name),
        database=int(database or 0),
        login={key: value for key, value in given.items() if value},
        sentinel_login={k.removeprefix("sentinel_"): options[k] for k in _OWN if k in options},
    )


def _host_and_port(text: str, shown: str) -> tuple[str, int]:
    """`host`, `host:port` or `[address of IPv6]:port`."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or not (port or "0").isdecimal() or int(port or 0) > 65_535:
        raise ConfigError(f"broker URL {shown}: must be {FORM}")
    return host, int(port or DEFAULT_PORT)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
