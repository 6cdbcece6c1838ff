"""A process that uses the server over a directory: `python -m …user DIRECTORY`.

It prints `using PORT KEEPER SERVER` and stays until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.postgres.server import Running, embedded_postgres, running

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class User:
    """A started process and what it said."""

    process: subprocess.Popen[str]

    def server(self) -> Running:
        """The server it uses; blocks until it does."""
        assert self.process.stdout is not None
        word, *numbers = self.process.stdout.readline().split()
        assert word == "using"
        port, keeper, server = map(int, numbers)
        return Running(port=port, keeper=keeper, server=server)

    def leave(self) -> int:
        """Ends it in the usual way; its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def user(directory: Path) -> Iterator[User]:
    """A process that opens the directory; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.postgres.user", str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield User(process)
        finally:
            process.kill()


def processes(directory: Path) -> list[psutil.Process]:
    """Keepers and servers of a directory that run at this moment."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(directory)
            keeps = any(str(directory) in word for word in process.cmdline())
            if inside or (keeps and any(w.endswith("keeper.py") for w in process.cmdline())):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def assert_all_gone(directory: Path) -> None:
    """Passes when every process of a directory ends within a minute."""
    _, alive = psutil.wait_procs(processes(directory), timeout=60)
    assert not alive
    assert not processes(directory)


if __name__ == "__main__":
    with embedded_postgres(Path(sys.argv[1]), {"fsync": "off"}):
        using = running(Path(sys.argv[1]))
        assert using is not None
        print("using", using.port, using.keeper, using.server, flush=True)
        sys.stdin.read()
