"""Celery as producers and workers use it: one configuration for both.

The reasons for the settings are in docs/about/decisions/0002-delivery.md. Celery is imported inside
the functions, so that `--help` does not pay for it.
"""

from __future__ import annotations

from typing import Any

from headrace.queue import sentinel_url
from headrace.queue.kombu_layout import KEY_PREFIX
from headrace.queue.open import celery_settings
from headrace.queue.redis_connection import (
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    TIMEOUTS,
    celery_url,
    mask_url,
)

# Chosen, not needed: a message lives in `unacked` for milliseconds only (early acknowledgement,
# no prefetch), and the controller does not wait for Celery to restore one.
VISIBILITY_TIMEOUT_S = 3600

# A host that vanishes closes no connection, and a receiver in an event loop has no timeout. So
# kombu drops a pop that is overdue by this many seconds, and checks as often. Measured with the
# network cut: both workers were back after 49 s at 10 s (and 20 s for an answer), 16 s at 5 s.
HEALTH_CHECK_S = 5


def config(broker_url: str) -> dict[str, Any]:
    """Celery's settings with the broker's URL in kombu's form."""
    return {
        "broker_url": broker_url,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_create_missing_queues": True,
        "task_default_queue": "default",
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_pool_start_method": "spawn",
        # The spawned child imports our modules before it answers; Celery's default is 4 s.
        "worker_proc_alive_timeout": 120,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": ANSWER_TIMEOUT_S,  # kombu's blocking pop takes 1 s at most
            "health_check_interval": HEALTH_CHECK_S,
            "retry_on_timeout": True,
        },
    }


def config_for(redis_url: str, queue_url: str | None) -> dict[str, Any]:
    """Celery's settings for a Redis URL as people write it and, optionally, another broker's URL."""
    if queue_url is not None:
        return config(queue_url) | celery_settings(queue_url)
    settings = config(celery_url(redis_url))
    if sentinel_url.is_sentinel(redis_url):
        address = sentinel_url.parse(redis_url, mask_url(redis_url))
        settings["broker_transport_options"] |= address.kombu_options(TIMEOUTS)
        if address.tls is not None:
            settings["broker_use_ssl"] = address.tls
    return settings


def make_sender(redis_url: str, queue_url: str | None = None) -> Any:
    """A Celery app that can only send."""
    from celery import Celery

    app = Celery("headrace", set_as_current=False)
    app.conf.update(config_for(redis_url, queue_url))
    return app
