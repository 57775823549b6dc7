"""Options of a command line, made from the settings they set."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from headrace.setting_fields import Setting, declared_settings, setting_types

SETTINGS = declared_settings()
TYPES = setting_types(SecretStr=str, CommaList=str)


def setting_option(name: str, flag: str | None = None, group: str | None = None) -> Any:
    """The annotated type of an option that is None where it is not given."""
    setting = SETTINGS[name]
    option = typer.Option(
        flag or setting.flag or _flag(name, setting),
        help=help_of(setting),
        rich_help_panel=group,
        show_default=False,
    )
    return Annotated[_plain_type(TYPES[name]) | None, option]


def _flag(name: str, setting: Setting) -> str:
    flag = f"--{name.replace('_', '-')}"
    is_on_off = _plain_type(TYPES[name]) is bool and setting.default is not False
    return f"{flag}/{flag.replace('--', '--no-', 1)}" if is_on_off else flag


def help_of(setting: Setting) -> str:
    """The help text of the setting, with its default if it has one and the text does not name it."""
    default = setting.default
    has_none = default is None or isinstance(default, bool) or default in ((), {})
    if has_none or "default: " in setting.help:
        return setting.help
    shown = f"{default:,}" if isinstance(default, int) else str(default)
    return f"{setting.help}; default: {shown}"


def _plain_type(kind: Any) -> Any:
    """The type that the command line parses; the settings validate the rest."""
    for one in get_args(kind) if get_origin(kind) is not dict else ():
        if one in (bool, int, float):
            return one
    return kind if kind in (bool, int, float) else str


def with_settings(
    parameters: Iterable[inspect.Parameter],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The command with these options added; those that were given are passed as `flags`."""
    shared = list(parameters)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command)
        hints = get_type_hints(command, include_extras=True)

        @functools.wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            flags = {it.name: kwargs.pop(it.name) for it in shared}
            return command(*args, flags={k: v for k, v in flags.items() if v is not None}, **kwargs)

        kept = [
            it.replace(annotation=hints.get(it.name, it.annotation))
            for it in own.parameters.values()
            if it.name != "flags"
        ]
        wrapped.__signature__ = own.replace(parameters=[*kept, *shared])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {it.name: it.annotation for it in [*kept, *shared]}
        return wrapped

    return decorate


def parameters_of(
    names: Iterable[str], flags: Mapping[str, str] | None = None, group: str | None = None
) -> list[inspect.Parameter]:
    """These settings as keyword parameters of a command; `flags` renames some options."""
    flags = flags or {}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=setting_option(name, flags.get(name), group),
        )
        for name in names
    ]
