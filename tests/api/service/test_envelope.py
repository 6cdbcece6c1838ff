"""Every error has the one form."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.context import AppContext
from api.settings import SyncSettings


@pytest.fixture
def app() -> FastAPI:
    return create_app(AppContext(sync=SyncSettings(5.0)))


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def test_health(app: FastAPI) -> None:
    import asyncio

    async def check() -> None:
        async with client(app) as http:
            assert (await http.get("/health")).json() == {"status": "ok"}
            missing = await http.get("/nothing")
            assert missing.status_code == 404
            assert missing.json()["error"]["code"] == "not_found"
            wrong = await http.post("/health")
            assert wrong.status_code == 405
            assert wrong.headers["allow"] == "GET"

    asyncio.run(check())
