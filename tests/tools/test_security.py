"""Insecure constructions and known vulnerabilities are looked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.run import LINT, PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def test_bandit_looks_at_every_package_and_finds_what_it_should(tmp_path: Path) -> None:
    (command,) = [command for command in LINT if command[0] == "bandit"]
    assert command[-len(PACKAGES) :] == PACKAGES
    assert all((ROOT / package / "__init__.py").is_file() for package in PACKAGES)
    spoiled = tmp_path / "spoiled.py"
    spoiled.write_text("import yaml\nx = eval(yaml.load('1', yaml.Loader))\n")
    options = command[1 : -len(PACKAGES)]
    done = subprocess.run(
        [sys.executable, "-m", "bandit", *options, str(spoiled)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert {"B307", "B506"} <= {*re.findall("B[0-9]{3}", done.stdout)}


def test_no_locked_package_has_a_known_vulnerability() -> None:
    if not os.environ.get("ROEHUB_PIP_AUDIT"):
        pytest.skip("pip-audit asks a service on the network: set ROEHUB_PIP_AUDIT=1 to run it")
    done = subprocess.run(
        [
            sys.executable, "-m", "uv", "tool", "run", "pip-audit", "--require-hashes",
            "--disable-pip", "--progress-spinner", "off", "-r", str(ROOT / "requirements.txt"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
