"""Schemathesis finds nothing in the paths of second factors and exchange keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.api.identity.secret_service import Users, service, users
from tests.api.service.test_openapi import CHECKS

__all__ = ["service", "users"]


def test_nothing_is_found(users: Users, tmp_path: Path) -> None:
    ann = users.person()
    ann.enable()
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{users.url}/openapi.json",
            "--include-path-regex", "^/(2fa|exchange-keys)",
            "--header", f"Cookie: {ann.client.headers['cookie']}",
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
    assert "Tested: 10" in done.stdout
