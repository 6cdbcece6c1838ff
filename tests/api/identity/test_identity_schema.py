"""The paths of users describe themselves completely, and schemathesis finds nothing in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.identity.people import COOKIE
from tests.api.identity.sharing import ann, database, shared, url
from tests.api.service.market import CLIENT_S
from tests.api.service.test_openapi import CHECKS, parts, said

__all__ = ["ann", "database", "shared", "url"]
ENVELOPE = {"$ref": "#/components/schemas/ErrorEnvelope"}


@pytest.fixture
def document(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/openapi.json", trust_env=False, timeout=CLIENT_S).json()


def test_every_path_field_and_error_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bare = [
        f"{path}/{name}"
        for path, node in parts(schemas)
        if path.count("/properties") == path.count("/properties/")
        for name, field in node.get("properties", {}).items()
        if not (field.get("description") or said(field, schemas))
    ]
    assert not bare
    assert all(one.get("description") for one in schemas.values())
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation.get("summary"), where
            assert operation.get("description"), where
            assert operation.get("tags"), where
            assert all(one.get("description") for one in operation.get("parameters", [])), where
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")) and path != "/ready":
                    assert response["content"]["application/json"]["schema"] == ENVELOPE, where
            if "requestBody" in operation:
                assert {"413", "415", "422"} <= {*operation["responses"]}, where


def test_what_asks_for_a_user_says_that_it_may_refuse(document: dict[str, Any]) -> None:
    public = {"/health", "/ready", "/metrics", "/indicators", "/indicators/estimate"}
    public |= {"/auth/logout", "/auth/links/{code}", "/auth/telegram/login"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path not in public:
                assert {"401", "403"} <= {*operation["responses"]}, f"{method} {path}"


def test_nothing_is_found(ann: httpx.Client, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{ann.base_url}/openapi.json",
            "--include-path-regex", "^/(auth|access-tokens|account)",
            "--exclude-path-regex", "^/auth/logout",  # the rest would be done by nobody
            "--exclude-path", "/account",
            "--header", f"Cookie: {COOKIE}={ann.cookies[COOKIE]}",
            "--checks", ",".join(CHECKS),
            "--phases", "examples,fuzzing",
            "--max-examples", "10",
            "--request-timeout", "60",
            "--generation-deterministic",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "Tested: 13" in done.stdout, done.stdout[-3000:]
