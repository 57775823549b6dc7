"""Renders the pages: all values are escaped, and the browser may load and run nothing else."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from headrace.process.numbers import duration, plural
from headrace.process.printable import printable
from producers.gateway.problems import Problem

HERE = Path(__file__).parent
PREFIX = "/console"
CSRF = "headrace_csrf"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@cache
def templates() -> Environment:
    """The templates, parsed once."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "count": lambda n: f"{n:,}",
        "when": when,
        "ago": lambda s: f"{duration(max(0.0, time.time() - s))} ago",
        "duration": duration,
        "shown": lambda text: printable(str(text)),
        "percent": lambda share: f"{share:.0%}",
    }
    environment.globals["plural"] = plural
    return environment


def when(at_s: float) -> str:
    """A time in UTC, to the minute."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def page(
    request: Request, name: str, status: int = 200, *, refresh_s: int | None = None, **facts: Any
) -> Response:
    """A page with strict security headers, and the token that its forms send back.

    With `refresh_s` it loads again by itself, unless its address says `live=0`.
    """
    is_still = request.query_params.get("live") == "0"
    token = request.cookies.get(CSRF) or secrets.token_urlsafe(24)
    text = (
        templates()
        .get_template(f"{name}.html")
        .render(
            here=name, csrf=token, refresh_s=refresh_s, is_still=is_still, prefix=PREFIX, **facts
        )
    )
    found = HTMLResponse(text, status, headers={"Content-Security-Policy": POLICY})
    if CSRF not in request.cookies:
        found.set_cookie(CSRF, token, httponly=True, samesite="strict", path="/")
    return found


def error_page(request: Request, problem: Problem) -> Response:
    """An error page."""
    found = page(request, "problem", problem.status, problem=problem)
    found.headers.update(problem.headers)
    return found


def check_token(request: Request, token: str) -> None:
    """Check that a form is one of our pages', sent by the browser that got it.

    Raises:
        Problem: 403, it is not.
    """
    expected = request.cookies.get(CSRF, "")
    if not expected or not secrets.compare_digest(expected.encode(), token.encode()):
        raise Problem(
            403, "this form is too old or not ours: go back and load it again", code="csrf"
        )
