"""`roehub up` as a process over a directory, with all that belongs to it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

import httpx
import psutil

from api.client import Client
from api.credentials import token_for
from tests.cluster.cli import ROOT

STARTS_S, STOPS_S = 180, 30


def fetched(url: str, **options: Any) -> httpx.Response:
    """The answer at an address, as patient as a start: all cores may be busy."""
    return httpx.get(url, timeout=STARTS_S, **options)


def until(
    condition: Callable[[], Any],
    what: str | Callable[[], Any],
    seconds: float = STARTS_S,
) -> Any:
    """What `condition()` returns as soon as it is true; `what` is said when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.05)
    return found


class Running:
    """A `roehub up` over a directory of data; `program` is the module that is `roehub`."""

    program = "api.cli"
    on_terminal = False
    """Whether it writes to a terminal, as for somebody who looks on, instead of into a file."""

    def __init__(self, directory: Path, *options: object, **environ: str) -> None:
        self.directory, self.options, self.environ = directory, options, environ
        directory.mkdir(exist_ok=True)
        self.output = directory / f"output-{time.monotonic_ns()}"
        with self._place() as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, "up", "--port", "0", *map(str, options)],
                cwd=ROOT, env={**os.environ, **environment(directory), **environ},
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @contextmanager
    def _place(self) -> Iterator[IO[bytes] | int]:
        """Where it writes."""
        if not self.on_terminal:
            with self.output.open("wb") as output:
                yield output
            return
        ours, theirs = pty.openpty()
        self.output.touch()
        threading.Thread(target=self._copied, args=(ours,), daemon=True).start()
        yield theirs
        os.close(theirs)

    def _copied(self, terminal: int) -> None:
        """Keeps what comes to a terminal, until nobody has it open."""
        with self.output.open("ab", buffering=0) as output, suppress(OSError):
            while found := os.read(terminal, 65536):
                output.write(found.replace(b"\r\n", b"\n"))
        os.close(terminal)

    def again(self) -> Self:
        """Another one like this."""
        return type(self)(self.directory, *self.options, **self.environ)

    @property
    def said(self) -> str:
        """All that it wrote so far."""
        return self.output.read_text()

    def log(self, name: str) -> str:
        """The end of what a child wrote."""
        return (self.directory / "logs" / name).read_text()[-3000:]

    def url(self) -> str:
        """Where it serves; waits until it is up."""

        def up() -> bool:
            assert self.process.poll() is None, self.said
            return "try: roehub submit" in self.said

        until(up, lambda: self.said)
        return self.place("API")

    def place(self, name: str) -> str:
        """What the table says of `name`."""
        found = re.search(rf"^  {name} +(\S.*)$", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found[1]

    def link(self) -> str | None:
        """The link that logs a browser in, where it printed one."""
        found = re.search(r"^  (\S+/auth/links/\S+)$", self.said, re.MULTILINE)
        return None if found is None else found[1]

    def token(self) -> str:
        """What it left for the commands of whoever started it."""
        found = token_for(self.url(), None, {"ROEHUB_DATA_DIR": str(self.directory)})
        assert found is not None
        return found

    def client(self) -> Client:
        """A client of whoever started it."""
        return Client(self.url(), token=self.token())

    def get(self, path: str, **params: Any) -> Any:
        """The answer at `path`, for whoever started it."""
        bearer = {"Authorization": f"Bearer {self.token()}"}
        return fetched(f"{self.url()}{path}", params=params, headers=bearer).json()

    def post(self, path: str, body: Any = None) -> Any:
        """The answer to what whoever started it sends."""
        bearer = {"Authorization": f"Bearer {self.token()}"}
        return httpx.post(f"{self.url()}{path}", json=body, headers=bearer, timeout=STARTS_S).json()

    def family(self) -> list[psutil.Process]:
        """All its processes, found by the directory in their environment."""
        return list(processes_over(self.directory))

    def member(self, word: str) -> psutil.Process | None:
        """The process that has `word` among its arguments."""
        for one in self.family():
            with suppress(psutil.Error):
                if word in one.cmdline():
                    return one
        return None

    def end(self, number: int) -> int:
        """Its exit status after a signal, when nothing of it is left."""
        family = self.family()
        assert self.process.pid in [one.pid for one in family]
        self.process.send_signal(number)
        status = self.process.wait(STOPS_S)
        until(
            lambda: not [one for one in family if alive(one)],
            lambda: [(one.pid, one.cmdline()) for one in family if alive(one)],
            STOPS_S,
        )
        assert not self.family()
        return status


def environment(directory: Path) -> dict[str, str]:
    """What a `roehub up` over `directory` is told."""
    return {"ROEHUB_DATA_DIR": str(directory), "ROEHUB_ENV": "test"}


def processes_over(directory: Path) -> Iterator[psutil.Process]:
    """The living processes that have `directory` in their environment."""
    mark = f"ROEHUB_DATA_DIR={directory}".encode()
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                yield process


def servers_over(directory: Path) -> list[psutil.Process]:
    """Servers over `directory` that outlive a killed `roehub up`; the next one has them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(directory) in " ".join(process.cmdline()) and "valkey" in process.name():
                found.append(process)
    return found


def cleared(directory: Path) -> None:
    """Ends whatever a failed test left running."""
    for process in (*processes_over(directory), *servers_over(directory)):
        process.kill()


def alive(process: psutil.Process) -> bool:
    """Whether a process runs, or threads of it that may hold its ports and files still; one that
    nobody has waited for does not."""
    try:
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return process.is_running() and (not is_zombie or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False
