"""boto3's client for one store, made on first use."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

CONNECT_TIMEOUT_S = 10.0
"""Chosen: a handshake with three lost packets takes 7 s."""
CONNECTIONS = 32
"""Chosen: simultaneous connections of one process to the store; more threads wait."""


def _key_of(client: Any) -> Any:
    """The key, secret and token that a client signs with; None without any."""
    credentials = client._request_signer._credentials  # botocore 1.43 has no public way
    return None if credentials is None else credentials.get_frozen_credentials()


@dataclass(frozen=True)
class S3Connection:
    """How to connect to a bucket. Credentials: boto3's chain (environment, profile, role)."""

    endpoint_url: str | None
    region: str | None
    path_style: bool
    timeout_s: float
    requester_pays: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: list[Any] = field(default_factory=list)

    def client(self) -> Any:
        """The one client for all threads; it never retries, since its caller does."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def renew(self) -> bool:
        """Whether the environment, the profile or the role gives other credentials than we have.

        Then the next client has them. boto3 reads the shared file once for each session.
        """
        with self._lock:
            if not self._made:
                return False
            client, before = self._made[0], _key_of(self._made[0])
            fresh = self._make()
            if before is None or _key_of(fresh) in (None, before):
                return False
            self._made[0] = fresh
            client.close()
            return True

    def _make(self) -> Any:
        import boto3
        from botocore.config import Config

        # Servers other than AWS often refuse the trailing checksums of botocore 1.36 on.
        checksums = "when_required" if self.endpoint_url else "when_supported"
        config = Config(
            connect_timeout=min(CONNECT_TIMEOUT_S, self.timeout_s),
            read_timeout=self.timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if self.path_style else "auto"},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        )
        session = boto3.session.Session(region_name=self.region)
        # Without a region boto3 finds the bucket's own; other servers accept any region in a signature.
        region = session.region_name or ("us-east-1" if self.endpoint_url else None)
        client = session.client(
            "s3", endpoint_url=self.endpoint_url, region_name=region, config=config
        )
        if self.requester_pays:
            client.meta.events.register("before-parameter-build.s3.*", _pay)
        return client


def _pay(params: dict[str, Any], model: Any, **_: Any) -> None:
    """Add the consent to pay to every operation that takes it."""
    if "RequestPayer" in model.input_shape.members:
        params["RequestPayer"] = "requester"
