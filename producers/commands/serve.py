"""`serve`: the HTTP gateway."""

from __future__ import annotations

from producers.commands.session import Session
from schemas.errors import ConfigError, ExitCode, MissingExtra


def run_gateway(session: Session) -> int:
    """Serve until SIGTERM. Without keys only this machine may be served.

    Raises:
        MissingExtra: the extra `gateway` is not installed.
        ConfigError: no broker was named, the address cannot be used, or it is open to others
            while there are no keys.
    """
    try:
        from producers.gateway.app import create_app
        from producers.gateway.server import is_loopback, serve
        from producers.gateway.state import open_gateway
    except ImportError as error:
        raise MissingExtra(
            f"the gateway needs {error.name}: pip install 'headrace[gateway]'"
        ) from error
    settings = session.settings
    gateway = open_gateway(settings)
    listen = settings.gateway_listen
    if not gateway.needs_keys and not is_loopback(listen):
        raise ConfigError(
            f"there are no keys, so everybody who reaches {listen} could submit: make one with "
            "headrace keys create, or listen on 127.0.0.1"
        )
    gateway.broker()  # refused now, and not at the first request
    if not gateway.needs_keys:
        session.terminal.note(
            "there are no keys: only this machine is served. Make one: headrace keys create"
        )
    session.terminal.note(f"gateway on http://{listen}, its files in {gateway.root.store.uri}")
    serve(create_app(gateway), listen)
    return ExitCode.OK
