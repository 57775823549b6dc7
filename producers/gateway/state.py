"""The state that routes share. All of it can be rebuilt after a restart."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request

from headrace.settings import Settings
from producers.driver.session import Broker, needed_broker
from producers.gateway.access.keys import Keyring
from producers.gateway.access.quota import Quota
from producers.gateway.root import Root, open_root
from producers.records.job_registry import Registry, open_registry
from schemas.errors import BrokerError, ConfigError
from schemas.records.model_version import SCHEME

if TYPE_CHECKING:
    from producers.gateway.access.tokens import Tokens

DEFAULT_ALIAS = "champion"
"""The alias of a model name without one."""


@dataclass(slots=True)
class Gateway:
    """Settings, the store, keys, quota, and one connection to the broker for all requests."""

    settings: Settings
    root: Root
    needs_keys: bool
    keyring: Keyring
    tokens: Tokens | None
    """Tokens of an OpenID provider, taken beside keys."""
    quota: Quota
    registry: Registry
    models: dict[str, str]
    """Addresses of models by the names that requests use."""
    _broker: Broker | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def broker(self) -> Broker:
        """The broker, connected at first use; redis-py's pool serves all threads.

        Raises:
            ConfigError: none was named. BrokerError: it does not answer.
        """
        with self._lock:
            if self._broker is None:
                self._broker = needed_broker(self.settings)
            return self._broker

    @contextlib.contextmanager
    def broker_if_there(self) -> Iterator[Broker | None]:
        """The broker; None if it does not answer."""
        try:
            found = self.broker()
        except (BrokerError, ConfigError):
            yield None
            return
        yield found

    def address_of(self, model: str) -> str:
        """The address of a model by the name in a request; a name of the registry's is looked up.

        Raises:
            ModelRegistryError: the registry has no such name.
        """
        if model in self.models:
            return self.models[model]
        return model if model.startswith(SCHEME) else f"{SCHEME}{model}@{DEFAULT_ALIAS}"

    def settings_of_store(self) -> Settings:
        """The settings for jobs in the gateway's own store, which no prefix limits."""
        return self.settings.model_copy(update={"allowed_prefixes": ()})

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()


def open_gateway(settings: Settings, *, needs_keys: bool | None = None) -> Gateway:
    """The gateway of these settings; keys are needed where there are any.

    Raises:
        ConfigError: an entry of `gateway_models` is not NAME=ADDRESS; see
            `producers.gateway.access.tokens.open_tokens`.
    """
    root = open_root(settings)
    keyring, tokens = Keyring(root), _open_tokens(settings)
    found_keys = tokens is not None or keyring.has_keys()
    return Gateway(
        settings=settings,
        root=root,
        needs_keys=found_keys if needs_keys is None else needs_keys,
        keyring=keyring,
        tokens=tokens,
        quota=Quota(root.store),
        registry=open_registry(settings),
        models=dict(map(_named, settings.gateway_models)),
    )


def _open_tokens(settings: Settings) -> Tokens | None:
    """Where no issuer is named, the cryptography of tokens is not imported: it takes 9 MB."""
    if settings.gateway_oidc_issuer is None:
        return None
    from producers.gateway.access.tokens import open_tokens

    return open_tokens(settings)


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves the request."""
    found: Gateway = request.app.state.gateway
    return found


def _named(entry: str) -> tuple[str, str]:
    name, equals, address = entry.partition("=")
    if not equals or not name or not address:
        raise ConfigError(f"gateway-models: {entry!r} is not NAME=ADDRESS")
    return name, address
