"""The URL of a Redis whose primary is found through Redis Sentinel.

`redis+sentinel://[user:password@]host[:port][,host[:port]…]/NAME[/DATABASE]`, where the hosts are
sentinels and NAME is the one under which they watch the primary. User and password are those of the
primary; `?sentinel_username=…&sentinel_password=…` are the sentinels' own.

`rediss+sentinel://` is the same with TLS, to the primary and to the sentinels (`sentinel_tls=false`:
to the primary alone). `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` and
`ssl_check_hostname` are those of redis-py, for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from schemas.errors import ConfigError

SCHEME, TLS_SCHEME = "redis+sentinel", "rediss+sentinel"
DEFAULT_PORT = 26379
FORM = f"{SCHEME}://host:{DEFAULT_PORT},host:{DEFAULT_PORT}/NAME, with the primary's name"
_OWN = ("sentinel_username", "sentinel_password")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_BOTH = "sentinel_tls"


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
    tls: dict[str, Any] | None = None
    """Options of redis-py's TLS connection to the primary; None without TLS."""
    sentinel_tls: bool = False
    """Whether the sentinels are asked by TLS too, with the same options."""

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

    def primary_options(self) -> dict[str, Any]:
        """Options of redis-py for the connection to the primary, without timeouts."""
        return self.login | ({} if self.tls is None else {"ssl": True, **self.tls})

    def sentinel_options(self, timeouts: dict[str, Any]) -> dict[str, Any]:
        """Options of redis-py for the connection to each sentinel, with these `timeouts`.

        One that is away is asked once more and then left for the next: redis-py's own default is to
        ask it four times in some ten seconds.
        """
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        tls = {"ssl": True, **(self.tls or {})} if self.sentinel_tls else {}
        return timeouts | self.sentinel_login | {"retry": Retry(NoBackoff(), 1)} | tls


def is_sentinel(url: str) -> bool:
    """Whether a broker URL names sentinels."""
    return url.partition("://")[0].lower() in (SCHEME, TLS_SCHEME)


def parse(url: str, shown: str) -> SentinelUrl:
    """The parts of such a URL; `shown` is the URL as messages may show it.

    Raises:
        ConfigError: it has another form.
    """
    scheme, _, rest = url.partition("://")
    is_tls = scheme.lower() == TLS_SCHEME
    rest, _, query = rest.partition("?")
    login, _, rest = rest.rpartition("@")
    hosts, *path = rest.split("/")
    name, database, *more = [*path, "", ""] if len(path) < 2 else [*path]
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = (*_OWN, *((*_TLS, _BOTH) if is_tls else ()))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"broker URL {shown}: {unknown[0]} is no option of it; known: {', '.join(known)}"
        )
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
        tls=_tls_options(options, shown) if is_tls else None,
        sentinel_tls=is_tls and _is_true(options.get(_BOTH, "true"), _BOTH, shown),
    )


def _tls_options(options: dict[str, str], shown: str) -> dict[str, Any]:
    found: dict[str, Any] = {"ssl_cert_reqs": "required"}  # kombu's own default is no check at all
    found |= {name: options[name] for name in _TLS if name in options}
    found["ssl_cert_reqs"] = found["ssl_cert_reqs"].lower().removeprefix("cert_")
    if found["ssl_cert_reqs"] not in ("none", "optional", "required"):
        raise ConfigError(f"broker URL {shown}: ssl_cert_reqs is none, optional or required")
    checks = options.get("ssl_check_hostname", str(found["ssl_cert_reqs"] != "none"))
    return found | {"ssl_check_hostname": _is_true(checks, "ssl_check_hostname", shown)}


def _is_true(text: str, name: str, shown: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"broker URL {shown}: {name} is true or false")
    return text.lower() == "true"


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
