"""The description of the API, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import escape

from api.pages.reference import HERE, reference
from api.pages.rendering import page, templates
from api.pages.visitor import Somebody
from api.running import threaded

router = APIRouter()


@router.get("/docs")
async def docs(request: Request, user: Somebody) -> Response:
    """Every operation and every object of the OpenAPI document; nobody has to be logged in."""
    found: str = await threaded(request.app.state.reference)
    url = str(escape(str(request.base_url).rstrip("/")))
    return page(request, "docs.html", user, {"reference": found.replace(HERE, url)})


def described(document: Mapping[str, Any], *, with_header: bool) -> str:
    """The markup of the description, made once: it calls the service at `HERE`.

    `with_header` says that a request may name its user.
    """
    values = {"api": reference(document), "with_header": with_header}
    return templates().get_template("_reference.html").render(values)
