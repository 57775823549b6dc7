"""The commands `headrace serve` and `headrace keys …`."""

from __future__ import annotations

from typing import Annotated

import typer

from producers.cli_options import (
    Broker,
    GatewayListen,
    GatewayModels,
    GatewayStore,
    Json,
    ModelRegistry,
    Registry,
)

keys_app = typer.Typer(
    help="API keys of the gateway: only the SHA-256 of each is kept.", no_args_is_help=True
)


def serve(
    broker: Broker = None,
    store: GatewayStore = None,
    listen: GatewayListen = None,
    models: GatewayModels = None,
    registry: Registry = None,
    model_registry: ModelRegistry = None,
) -> None:
    """Serve batches of requests as OpenAI has them, jobs and the console over HTTP, until SIGTERM."""
    from producers.commands.gateway import run_gateway
    from producers.commands.session import open_session

    flags = {
        "broker_url": broker, "gateway_store": store, "gateway_listen": listen,
        "gateway_models": models, "registry": registry, "model_registry": model_registry,
    }  # fmt: skip
    raise typer.Exit(run_gateway(open_session(flags, is_service=True)))


@keys_app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="whose key it is")],
    scopes: Annotated[
        str, typer.Option("--scopes", help="what it may do, of submit, read and admin")
    ] = "submit,read",
    prefixes: Annotated[
        str | None,
        typer.Option("--prefixes", help="URI prefixes that its jobs may read and write"),
    ] = None,
    quota_tokens: Annotated[
        int | None,
        typer.Option("--quota-tokens", help="most tokens in batches that have not ended", min=1),
    ] = None,
    store: GatewayStore = None,
    json: Json = False,
) -> None:
    """Make a key and print it once."""
    from producers.commands.gateway import make_key
    from producers.commands.session import open_session

    session = open_session({"gateway_store": store}, as_json=json)
    raise typer.Exit(make_key(session, name, _split(scopes), _split(prefixes), quota_tokens))


@keys_app.command("list")
def list_(store: GatewayStore = None, json: Json = False) -> None:
    """List keys and what each may do."""
    from producers.commands.gateway import show_keys
    from producers.commands.session import open_session

    raise typer.Exit(show_keys(open_session({"gateway_store": store}, as_json=json)))


@keys_app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="name or id of the key", show_default=False)],
    store: GatewayStore = None,
) -> None:
    """Take a key's rights away. Its jobs and files stay."""
    from producers.commands.gateway import remove_key
    from producers.commands.session import open_session

    raise typer.Exit(remove_key(open_session({"gateway_store": store}), name))


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
