"""Connects to Redis: notices when the server is gone, and explains what is wrong.

One URL serves all processes: `redis://`, `rediss://` (TLS), a Unix socket as
`unix:///path?db=0` or in Celery's spelling `redis+socket:///path?virtual_host=0`, and
`redis+sentinel://`, whose form is in `headrace.queue.sentinel_url`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from headrace.queue import sentinel_url
from schemas.errors import BrokerError, ConfigError

if TYPE_CHECKING:  # redis takes 0.3 s to import, which --help must not pay
    import redis

SCHEMES = ("redis", "rediss", "unix", "redis+socket")

ANSWER_TIMEOUT_S = 5.0
"""Chosen: no command of ours takes 100 ms, and a half-open socket must be noticed within 60 s."""
CONNECT_TIMEOUT_S = 5.0
"""Chosen: a TCP handshake with two lost packets takes 3 s."""
HEALTH_CHECK_S = 15
"""Chosen: a connection idle for longer is checked with PING before a command is sent."""
RETRIES = 3
"""Chosen: with the backoff below, callers do not notice an outage of about one second."""
BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 1.0

TIMEOUTS = {
    "socket_timeout": ANSWER_TIMEOUT_S,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "socket_keepalive": True,
}
"""Of a connection over TCP."""

_NO_LOGIN = ("NOAUTH", "Authentication required", "client already authenticated")
"""Required: redis-py has one class for a wrong and a missing password; texts of Redis 6.2 to 8."""
_CLUSTER = (
    "is a Redis Cluster, which spreads keys that headrace changes in one step over several nodes: "
    "name a Redis with one primary (cluster mode disabled)"
)
_CLUSTER_ERRORS = (
    "MOVED ",
    "CROSSSLOT",
    "CLUSTERDOWN",
    "Keys in request don't hash to the same slot",
)
"""Required: how such an error of Redis 6.2 to 8, or of redis-py 8 itself, begins."""
_PROBE_KEY = "headrace:probe"


def connect(url: str, *, name: str) -> redis.Redis:
    """A client of Redis, thread-safe; replies are bytes. Nothing is sent yet.

    A command whose reply was lost is sent again: after `SET NX` compare the value, since the reply
    alone can mislead. `name` is what CLIENT LIST shows.

    Raises:
        ConfigError: the URL is not a Redis URL.
    """
    import redis
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.retry import Retry

    backoff = ExponentialWithJitterBackoff(base=BACKOFF_BASE_S, cap=BACKOFF_CAP_S)
    options: dict[str, Any] = {
        "client_name": name,
        "decode_responses": False,
        "health_check_interval": HEALTH_CHECK_S,
        "retry": Retry(backoff, RETRIES),
        "retry_on_error": [redis.ConnectionError, redis.TimeoutError],
    }
    if sentinel_url.is_sentinel(url):
        return _primary_of(sentinel_url.parse(url, mask_url(url)), options)
    target = _redis_py_url(url)
    is_socket = target.startswith("unix:")
    options |= {"socket_timeout": ANSWER_TIMEOUT_S} if is_socket else TIMEOUTS
    try:
        return redis.Redis.from_url(target, **options)
    except ValueError as error:
        raise ConfigError(f"broker URL {mask_url(url)}: {error}") from error


def _primary_of(address: sentinel_url.SentinelUrl, options: dict[str, Any]) -> redis.Redis:
    """A client that asks the sentinels for the primary whenever it connects."""
    from redis import sentinel

    sentinels = cast("Any", sentinel).Sentinel(
        address.sentinels, sentinel_kwargs=address.sentinel_options(TIMEOUTS)
    )
    found: redis.Redis = sentinels.master_for(
        address.primary, db=address.database, **TIMEOUTS, **options, **address.primary_options()
    )
    return found


def ping_or_raise(client: redis.Redis, url: str) -> None:
    """Check that Redis answers, accepts a write and is no cluster.

    Raises:
        BrokerError: it does not, with the reason and what to do.
    """
    with broker_errors(url):
        client.ping()
        if _is_cluster(client):
            raise BrokerError(f"Redis at {mask_url(url)} {_CLUSTER}")
        client.set(_PROBE_KEY, b"", px=1)


@contextmanager
def broker_errors(url: str) -> Iterator[None]:
    """Turns an error of redis-py inside the block into a `BrokerError` that says what to do."""
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise BrokerError(f"Redis at {mask_url(url)} {_explain(error)}") from error


def server_warnings(client: redis.Redis) -> list[str]:
    """Settings of the server that can lose messages, one sentence each; empty if there are none.

    A server that forbids CONFIG (many hosted ones do) is not checked.
    """
    from redis.exceptions import ResponseError

    try:
        policy = _config(client, "maxmemory-policy")
        append_only = _config(client, "appendonly")
    except ResponseError:  # NOPERM, or CONFIG renamed away
        return []
    warnings = []
    if policy not in ("noeviction", ""):
        warnings.append(
            f"Redis has maxmemory-policy {policy} and may throw queued messages away; "
            "set: CONFIG SET maxmemory-policy noeviction"
        )
    if append_only == "no":
        warnings.append(
            "Redis has no append-only file: a restart forgets the queue (headrace puts it back, "
            "but that takes time); set: CONFIG SET appendonly yes"
        )
    return warnings


def mask_url(url: str) -> str:
    """The URL with `***` for its password, even if the URL is invalid."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        return "***" if "@" in url else url
    # The password may hold an unquoted / or ?, so the last @ of all ends it.
    login, at, address = rest.rpartition("@")
    if at:
        user = login.partition(":")[0] if ":" in login else ""
        rest = f"{user}:***@{address}"
    head, question, query = rest.partition("?")
    if question:
        pairs = parse_qsl(query, keep_blank_values=True)
        hidden = [(k, "***" if "password" in k else v) for k, v in pairs]
        rest = f"{head}?{urlencode(hidden, safe='/*')}"
    return f"{scheme}://{rest}"


def celery_url(url: str) -> str:
    """The URL in kombu's form: sockets as `redis+socket://`, TLS with `ssl_cert_reqs`.

    Raises:
        ConfigError: the URL is not a Redis URL.
    """
    if sentinel_url.is_sentinel(url):
        return sentinel_url.parse(url, mask_url(url)).kombu_url()
    scheme, login, address, path, query = _split(url)
    if scheme in ("unix", "redis+socket"):
        number = query.pop("db", query.pop("virtual_host", "0"))
        return _join("redis+socket", login, address, path, {"virtual_host": number, **query})
    if scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")  # kombu's own default is no check at all
    return _join(scheme, login, address, path, query)


def _redis_py_url(url: str) -> str:
    scheme, login, address, path, query = _split(url)
    if scheme in ("unix", "redis+socket"):
        number = query.pop("virtual_host", query.pop("db", "0"))
        return _join("unix", login, address, path, {"db": number, **query})
    if scheme == "rediss" and "ssl_cert_reqs" in query:
        query["ssl_cert_reqs"] = query["ssl_cert_reqs"].lower().removeprefix("cert_")
    return _join(scheme, login, address, path, query)


def _split(url: str) -> tuple[str, str, str, str, dict[str, str]]:
    """Scheme, login with its @, address, path and query of a URL of Redis."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # not shown: it may quote a piece of the password
        raise ConfigError(
            f"broker URL {mask_url(url)}: not a URL; a password with / ? # or @ must be "
            "percent-encoded"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"broker URL {mask_url(url)}: must begin with redis://, rediss://, unix://, "
            "redis+socket://, redis+sentinel:// or rediss+sentinel://"
        )
    login, at, address = parts.netloc.rpartition("@")
    socket = parts.scheme in ("unix", "redis+socket")
    if socket and (address or not parts.path.strip("/")):
        raise ConfigError(
            f"broker URL {mask_url(url)}: a socket needs an absolute path, {parts.scheme}:///path"
        )
    if not socket and not parts.hostname:
        raise ConfigError(f"broker URL {mask_url(url)}: the host is missing")
    if not socket and not re.fullmatch(r"/?\d*", parts.path):  # perhaps a piece of a password
        raise ConfigError(
            f"broker URL {mask_url(url)}: after the host comes /0, a database's number"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return parts.scheme, login + at, address, parts.path, query


def _join(scheme: str, login: str, address: str, path: str, query: dict[str, str]) -> str:
    text = urlencode(query, safe="/", quote_via=quote)
    joined = urlunsplit(("x", login + address, path, text, ""))
    # urlunsplit leaves the // away where there is no address
    rest = joined.removeprefix("x:")
    return f"{scheme}:{rest if rest.startswith('//') else '//' + rest}"


def _is_cluster(client: redis.Redis) -> bool:
    from redis.exceptions import ResponseError

    try:
        found: Any = client.info("cluster")
    except ResponseError:  # NOPERM, or INFO renamed away: a later command will fail instead
        return False
    return bool(found.get("cluster_enabled"))


def _config(client: redis.Redis, key: str) -> str:
    found: Any = client.config_get(key)
    values = {_text(k): _text(v) for k, v in found.items()}
    return values.get(key, "")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _explain(error: BaseException) -> str:
    """What happened and what to do; without the error's own text if that may hold an argument."""
    import redis
    from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError
    from redis.sentinel import MasterNotFoundError

    if any(words in str(error) for words in _NO_LOGIN):
        return "wants a password: put it in the broker URL, redis://:password@host"
    if isinstance(error, redis.AuthenticationError):
        return "refused the user or password: check the broker URL, redis://user:password@host"
    if isinstance(error, NoPermissionError):
        return f"does not let this user do what headrace needs (ACL): {error}"
    if isinstance(error, ReadOnlyError):
        return "is a read-only replica: name the primary in the broker URL"
    if isinstance(error, OutOfMemoryError):
        return "is at its maxmemory and takes no writes: raise maxmemory or remove other data"
    if str(error).startswith(_CLUSTER_ERRORS):
        return _CLUSTER
    if isinstance(error, redis.BusyLoadingError):
        return "is still loading its data: wait, then try again"
    if isinstance(error, MasterNotFoundError):
        return "has no sentinel that answers and knows that primary: are hosts and name right?"
    if _is_tls(error):
        return f"failed the TLS handshake: check ssl_ca_certs and the host name ({error})"
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return f"did not answer within {ANSWER_TIMEOUT_S:g} s: is it there, and not blocked?"
    if isinstance(error, redis.ConnectionError | OSError):
        return f"cannot be reached ({error}): is it running, and is the address right?"
    return f"failed: {error}"


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
