"""How to connect to RabbitMQ: Celery's settings, and a check whose errors say what to do."""

from __future__ import annotations

from typing import Any

from headrace.queue.redis_connection import mask_url
from schemas.errors import BrokerError

CONNECT_TIMEOUT_S = 5.0
"""Chosen: as for Redis."""

CELERY_SETTINGS: dict[str, Any] = {
    "task_default_queue_type": "quorum",
    "task_create_missing_queue_type": "quorum",
    "task_acks_late": True,
    "worker_disable_prefetch": False,
    "broker_heartbeat": 30,
    "broker_transport_options": {"confirm_publish": True},
}
"""Instead of those for Redis, which keeps the outbox of the messages.

Acknowledged late, so that with a prefetch of one a worker has one message and not two. If the worker
dies, RabbitMQ sends it to another, which finds no entry in the outbox and drops it.
"""


def check_rabbitmq(url: str) -> None:
    """Check that RabbitMQ answers and accepts this user in this vhost.

    Raises:
        BrokerError: it does not, with the reason and what to do.
    """
    from kombu import Connection

    try:
        with Connection(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.connect()
    except Exception as error:  # amqp's, ssl's, the operating system's, and ValueError for a URL
        raise BrokerError(f"RabbitMQ at {mask_url(url)} {explain(error)}") from error


def explain(error: BaseException) -> str:
    """What happened and what to do; without the error's own text if that may hold an argument."""
    import ssl

    from amqp import exceptions as amqp

    if isinstance(error, amqp.AccessRefused):
        return "refused the user or password: check HEADRACE_QUEUE_URL, amqp://user:password@host"
    if isinstance(error, amqp.NotAllowed | amqp.NotFound):
        return "does not let this user into the vhost, or has no such vhost: see rabbitmqctl"
    if isinstance(error, ssl.SSLError):
        return f"failed the TLS handshake: check the certificates and the host name ({error})"
    if isinstance(error, TimeoutError):
        return f"did not answer within {CONNECT_TIMEOUT_S:g} s: is it there?"
    if isinstance(error, OSError):
        return f"cannot be reached ({error}): is it running, and is the address right?"
    return f"failed: {type(error).__name__}"
