"""Requests that another web page made a browser send: refused where they would change something.

Source: the algorithm of Go's `net/http.CrossOriginProtection`, https://go.dev/issue/73626
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from api.errors import Forbidden

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
OWN: Final = ("same-origin", "none")


def check_same_origin(request: Request, trusted: Collection[str]) -> None:
    """Returns when a request changes nothing, or comes from a page of ours, or from no page.

    Browsers say where a request comes from, and no page can change what they say: first
    `Sec-Fetch-Site`, else `Origin`, which is compared with `Host`. What sends neither is no
    browser, and nobody can make it send a cookie of somebody else's. `trusted` are origins that
    count as ours.

    Raises: Forbidden.
    """
    if request.method in SAFE_METHODS:
        return
    origin = request.headers.get("origin", "").lower()
    if origin in trusted:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        ours = site in OWN
    else:
        ours = not origin or urlsplit(origin).netloc == request.headers.get("host", "").lower()
    if not ours:
        raise Forbidden(
            "the request comes from a page of another site; set IDENTITY_TRUSTED_ORIGINS if it is "
            "one of yours",
            details={"error": "cross_site_request"},
        )
