"""The document of a service that has everything: users, jobs and strategies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.identity.people import TELEGRAM_ANN
from tests.api.identity.test_identity_schema import (
    test_every_path_field_and_error_is_described,
    test_what_asks_for_a_user_says_that_it_may_refuse,
)
from tests.api.service.market import CLIENT_S, store, store_directory
from tests.api.service.test_openapi import CHECKS
from tests.api.service.whole_service import Person, Place, ann, place

__all__ = [
    "ann",
    "place",
    "store",
    "store_directory",
    "test_every_path_field_and_error_is_described",
    "test_what_asks_for_a_user_says_that_it_may_refuse",
]


@pytest.fixture
def document(place: Place) -> dict[str, Any]:
    found = httpx.get(f"{place.url}/openapi.json", timeout=CLIENT_S, trust_env=False).json()
    assert {"/account", "/backtests/jobs", "/strategies", "/2fa"} <= {*found["paths"]}
    return found


def test_nothing_is_found_by_a_program_that_may_only_read(
    place: Place, ann: Person, tmp_path: Path
) -> None:
    """Whose every call that makes or changes something is a 403 that the document tells of."""
    ann.log_in(TELEGRAM_ANN)
    body = {"name": "n", "scopes": ["read"]}
    token = ann.client.post("/access-tokens", json=body).json()["token"]
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{place.url}/openapi.json",
            "--include-path-regex", "^/(strategies|backtests|2fa|exchange-keys|account)",
            "--header", f"Authorization: Bearer {token}",
            "--checks", ",".join(CHECKS),
            "--phases", "examples,fuzzing",
            "--max-examples", "3",
            "--request-timeout", "60",
            "--generation-deterministic",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "Tested: 55" in done.stdout, done.stdout[-3000:]
    assert ann.get("/strategies")["items"] == []
    assert ann.get("/backtests/jobs")["items"] == []
