"""`serve` and `keys`: the HTTP gateway, and API keys for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from headrace.process.fast_imports import keep_pandas_out
from producers.commands.session import Session
from producers.gateway.access.keys import create_key, delete_key, list_keys
from producers.gateway.records import KeyRecord
from producers.gateway.root import open_root
from producers.terminal.console import columns, plain
from schemas.errors import ConfigError, ExitCode, MissingExtra


def run_gateway(session: Session) -> int:
    """Serve until SIGTERM. Without keys only this machine may be served.

    Raises:
        MissingExtra: the extra `gateway` is not installed.
        ConfigError: no broker was named, the address cannot be used, or it is open to others
            while there are no keys.
    """
    try:
        from headrace.http.asgi_server import is_loopback, serve
        from producers.gateway.app import create_app
        from producers.gateway.batches.memory import keep_heaps_small
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
    keep_pandas_out()
    keep_heaps_small()
    gateway.broker()  # refused now, and not at the first request
    if not gateway.needs_keys:
        session.terminal.note(
            "there are no keys: only this machine is served. Make one: headrace keys create"
        )
    session.terminal.note(f"gateway on http://{listen}, its files in {gateway.root.store.uri}")
    serve(create_app(gateway), listen)
    return ExitCode.OK


def make_key(
    session: Session,
    name: str,
    scopes: Sequence[str],
    prefixes: Sequence[str],
    quota_tokens: int | None,
) -> int:
    """A new key on standard output; it is shown this once."""
    key, record = create_key(open_root(session.settings), name, scopes, prefixes, quota_tokens)
    if session.as_json:
        session.terminal.print_json({"key": key, **_shown(record)})
        return ExitCode.OK
    session.terminal.say(key)
    session.terminal.note(
        f"key {record.name} ({', '.join(record.scopes)}): only its SHA-256 is kept, so copy it now"
    )
    if "submit" in record.scopes and not (record.prefixes or session.settings.allowed_prefixes):
        session.terminal.warn(
            "without --prefixes its jobs may read and write wherever the gateway and workers can"
        )
    return ExitCode.OK


def show_keys(session: Session) -> int:
    """What each key may do."""
    records = [record for _, record in list_keys(open_root(session.settings))]
    if session.as_json:
        session.terminal.print_json([_shown(record) for record in records])
        return ExitCode.OK
    if not records:
        session.terminal.say("no key is there: the gateway serves this machine only")
        return ExitCode.OK
    table = columns("name", "scopes", "prefixes", "quota", "created")
    for record in sorted(records, key=lambda r: r.name):
        quota = "–" if record.quota_tokens is None else f"{record.quota_tokens:,} tokens"
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created_s))
        prefixes = ", ".join(record.prefixes) or "–"
        cells = (record.name, ", ".join(record.scopes), prefixes, quota, created)
        table.add_row(*map(plain, cells))
    session.terminal.show(table)
    return ExitCode.OK


def remove_key(session: Session, name: str) -> int:
    """Take a key's rights away."""
    record = delete_key(open_root(session.settings), name)
    session.terminal.say(f"deleted key {record.name}; gateways refuse it within seconds")
    return ExitCode.OK


def _shown(record: KeyRecord) -> dict[str, Any]:
    return record.model_dump(mode="json")
