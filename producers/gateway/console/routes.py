"""The console's routes: its pages, its style, and the redirect from `/` to the jobs."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

from producers.gateway.console import fleet_pages, job_pages
from producers.gateway.console.pages import HERE, PREFIX
from producers.pages.base_style import base_style

router = APIRouter(include_in_schema=False)
router.include_router(job_pages.router, prefix=PREFIX)
router.include_router(fleet_pages.router, prefix=PREFIX)

STYLE_S = 3_600


@router.get("/")
def first_page() -> Response:
    """Redirects to the jobs."""
    return RedirectResponse(f"{PREFIX}/jobs")


@router.get(f"{PREFIX}/style.css")
def style() -> Response:
    """The style sheet of all pages: that of reports, and the console's own."""
    headers = {"Cache-Control": f"max-age={STYLE_S}"}
    style = base_style() + (HERE / "style.css").read_text()
    return Response(style, media_type="text/css", headers=headers)
