"""The two clients of one bucket, boto3's for whole objects and Arrow's for reading at random."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 10.0
"""Chosen: a handshake with three lost packets takes 7 s."""
CONNECTIONS = 32
"""Chosen: threads of one process that speak to the store at once; more of them wait."""


@dataclass(frozen=True)
class S3Connection:
    """How to reach a bucket; makes each client once, for all threads.

    Credentials come from boto3's chain (environment, profile, role) and go to Arrow from there.
    """

    bucket: str
    endpoint_url: str | None
    region: str | None
    path_style: bool
    timeout_s: float
    attempts: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: dict[str, Any] = field(default_factory=dict)

    def client(self) -> Any:
        """boto3's client, which tries once: the tries are counted by the caller."""
        with self._lock:
            if "client" not in self._made:
                self._make_client()
            return self._made["client"]

    def arrow(self) -> Any:
        """Arrow's file system with the credentials of this moment; a role's change by the hour."""
        client = self.client()
        with self._lock:
            found = self._made["session"].get_credentials()
            login = None if found is None else found.get_frozen_credentials()
            if self._made.get("arrow_login") != login or "arrow" not in self._made:
                self._made["arrow"] = self._make_arrow(client, login)
                self._made["arrow_login"] = login
            return self._made["arrow"]

    def _make_client(self) -> None:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=min(CONNECT_TIMEOUT_S, self.timeout_s),
            read_timeout=self.timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if self.path_style else "auto"},
            # Servers other than AWS often refuse the trailing checksums of botocore 1.36 on.
            request_checksum_calculation="when_required" if self.endpoint_url else "when_supported",
            response_checksum_validation="when_required" if self.endpoint_url else "when_supported",
        )
        session = boto3.session.Session(region_name=self.region)
        # "aws-global" lets boto3 follow the bucket; other servers want any region to sign with.
        region = session.region_name or ("us-east-1" if self.endpoint_url else None)
        self._made["client"] = session.client(
            "s3", endpoint_url=self.endpoint_url, region_name=region, config=config
        )
        self._made["session"] = session

    def _make_arrow(self, client: Any, login: Any) -> Any:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        options: dict[str, Any] = {
            "region": self._arrow_region(client),
            "connect_timeout": min(CONNECT_TIMEOUT_S, self.timeout_s),
            "request_timeout": self.timeout_s,
            "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=self.attempts),
        }
        if login is not None:
            options |= {
                "access_key": login.access_key,
                "secret_key": login.secret_key,
                "session_token": login.token,
            }
        endpoint = urlsplit(client.meta.endpoint_url)
        if not (endpoint.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            options |= {
                "scheme": endpoint.scheme,
                "endpoint_override": endpoint.netloc,
                "force_virtual_addressing": not self.path_style,
            }
        return S3FileSystem(**options)

    def _arrow_region(self, client: Any) -> str:
        """The bucket's own region: Arrow, unlike boto3, does not follow a redirect to it."""
        if self.endpoint_url or self.region:
            return str(client.meta.region_name)
        found = client.head_bucket(Bucket=self.bucket)["ResponseMetadata"]["HTTPHeaders"]
        return str(found.get("x-amz-bucket-region", client.meta.region_name))
