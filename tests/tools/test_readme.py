"""The README names what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.cli import app
from tools.run import JOBS

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("job", sorted(JOBS))
def test_every_job_of_the_tools_is_named(job: str) -> None:
    layout = next(line for line in README.splitlines() if line.startswith("tools/ "))
    assert job in layout.replace(",", " ").replace(")", " ").replace("(", " ").split()


def test_every_command_is_named() -> None:
    commands = [
        command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    groups = [group.name for group in app.registered_groups]
    for name in (*commands, *groups):
        assert f"roehub {name}" in README or f"tools.run {name}" in README, name
