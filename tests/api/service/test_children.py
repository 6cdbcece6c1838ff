"""Children: started again when they die, ended when asked, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from api.children import Backoff, Child, Program

QUICK = Backoff(first_seconds=0.05, longest_seconds=0.2)
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('up', flush=True)\n"
    "time.sleep(600)\n"
)


def program(tmp_path: Path, code: str, **options: object) -> Program:
    command = [sys.executable, "-c", code]
    return Program("worker", command, tmp_path / "worker.log", **options)  # type: ignore[arg-type]


async def until(condition: object, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_that_dies_is_started_again_and_said_so(tmp_path: Path) -> None:
    said: list[str] = []

    async def run() -> None:
        child = Child(program(tmp_path, SLEEPER), said.append, backoff=QUICK)
        child.begin()
        await until(lambda: child.starts == 1 and child.pid)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.starts == 2 and child.pid)
        assert child.pid != first
        child.kill()
        await until(lambda: child.starts == 3 and child.pid)
        last = child.pid
        await child.end()
        assert last is not None
        assert gone(last)

    asyncio.run(run())
    assert "worker was ended by SIGKILL; starting it again in 0.05 s" in said[0]
    assert "in 0.1 s" in said[1]
    assert len(said) == 2


def test_the_pause_grows_and_the_reason_is_told(tmp_path: Path) -> None:
    said: list[str] = []

    async def run() -> None:
        child = Child(program(tmp_path, "raise SystemExit('no disk')"), said.append, backoff=QUICK)
        child.begin()
        await until(lambda: len(said) == 4)
        await child.end()

    asyncio.run(run())
    assert [line.split(" in ")[1].split(" s")[0] for line in said] == ["0.05", "0.1", "0.2", "0.2"]
    assert "ended with status 1" in said[0]
    assert "last it said: no disk" in said[0]
    assert str(tmp_path / "worker.log") in said[0]


def test_a_stubborn_child_is_killed_with_its_group(tmp_path: Path) -> None:
    async def run() -> None:
        child = Child(program(tmp_path, STUBBORN, patience_seconds=0.3), print)
        child.begin()
        await until(lambda: (tmp_path / "worker.log").read_bytes() if child.pid else b"")
        assert child.pid is not None
        family = [child.pid, *(one.pid for one in psutil.Process(child.pid).children())]
        assert len(family) == 2
        began = time.monotonic()
        await child.end()
        assert time.monotonic() - began < 5
        await until(lambda: all(map(gone, family)))

    asyncio.run(run())


_PARENT = """
import asyncio, sys
from pathlib import Path
from api.children import Child, Program
async def main():
    child = Child(Program("w", [sys.executable, "-c", {code!r}], Path({log!r})), print)
    child.begin()
    while child.pid is None: await asyncio.sleep(0.02)
    print(child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(code=SLEEPER, log=str(log))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    asyncio.run(until(lambda: log.exists() and log.read_bytes()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    asyncio.run(until(lambda: gone(pid)))


def test_a_child_that_ends_well_was_still_to_stay(tmp_path: Path) -> None:
    said: list[str] = []

    async def run() -> None:
        child = Child(program(tmp_path, "pass"), said.append, backoff=QUICK)
        child.begin()
        await until(lambda: child.starts > 1)
        await child.end()

    asyncio.run(run())
    assert "ended with status 0" in said[0]


def test_a_child_knows_no_secret_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_JWT_SECRET", "planted")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "planted")
    monkeypatch.setenv("STRATEGY_PG_DSN", "postgresql://known")
    code = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"

    async def run() -> None:
        child = Child(program(tmp_path, code), lambda _: None, backoff=QUICK)
        child.begin()
        await until(lambda: child.starts > 1)
        await child.end()

    asyncio.run(run())
    said = (tmp_path / "worker.log").read_text()
    assert "postgresql://known" in said
    assert "planted" not in said
