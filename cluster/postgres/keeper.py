"""Keeps one PostgreSQL server running for as long as a process uses it; a program of its own.

Started by `cluster.postgres.server` with a JSON object as its only argument; imports nothing but
the standard library. It holds the keeper lock of the directory while it lives, starts the server
again when that dies, and ends it when nobody holds the users lock: the kernel drops the locks of
a process that is killed. The server in turn is told by the kernel when the keeper is killed.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
FAST_STOP = signal.SIGINT  # what PostgreSQL calls it: open transactions are rolled back
POLL_S = 0.1
STARTING_POLL_S = 0.01
SHORT_S = 5.0  # a server that lived no longer has failed, and is started again less eagerly
LONGEST_PAUSE_S = 5.0
STOP_S = 60.0

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Keeper:
    """One server under watch; `order` is what the starter wrote."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.command: list[str] = order["command"]
        self.data = Path(order["data"])
        self.state = Path(order["state"])
        self.port: int = order["port"]
        self.uid: int | None = order["uid"]
        self.gid: int | None = order["gid"]
        self.starter: int | None = order["starter_fd"]
        self.lock: int = order["keeper_fd"]
        self.users = os.open(order["users"], os.O_RDWR | os.O_CLOEXEC)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.started = 0.0
        self.server = self.start()
        self.ready = False

    def run(self) -> int:
        """Exit status: 0 after a stop that was asked for, 1 when the first start failed."""
        failures = 0
        while True:
            number = self.pause(POLL_S if self.ready else STARTING_POLL_S)
            if number == signal.SIGTERM or not self.used():
                self.stop()
                return 0
            status = self.server.poll()
            if status is None:
                if not self.ready and self.accepts():
                    self.announce()
                continue
            self.forget()
            if self.starter is not None or not self.data.is_dir():
                return 1  # the starter finds the reason in the log
            short = not self.ready or time.monotonic() < self.started + SHORT_S
            failures = failures + 1 if short else 0
            self.say(f"the server ended with status {status}; starting it again")
            if failures:
                time.sleep(min(0.1 * 2**failures, LONGEST_PAUSE_S))
            self.ready = False
            self.server = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """The server as a child that gets a fast stop from the kernel when the keeper dies.

        It shares the keeper lock: the directory is taken until its last process is gone.
        """
        keeper = os.getpid()
        self.started = time.monotonic()

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            self.libc.prctl(PR_SET_PDEATHSIG, int(FAST_STOP), 0, 0, 0)
            if os.getppid() != keeper:
                os._exit(1)

        return subprocess.Popen(
            self.command,
            cwd=self.data,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            stdin=subprocess.DEVNULL,
            pass_fds=[self.lock],
            preexec_fn=prepare,
        )

    def pause(self, seconds: float) -> int | None:
        """The signal that ended the pause, None when time did."""
        found = signal.sigtimedwait(_SIGNALS, seconds)
        return None if found is None else found.si_signo

    def used(self) -> bool:
        """Whether another process holds the users lock; once False, nobody can take it."""
        try:
            fcntl.flock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def accepts(self) -> bool:
        """Whether the server says in its own lock file that it takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.server.pid) and lines[7].strip() == "ready"

    def announce(self) -> None:
        """Writes where the server is, for its starter and for those who join."""
        self.ready = True
        text = json.dumps({"keeper": os.getpid(), "server": self.server.pid, "port": self.port})
        new = self.state.with_suffix(".new")
        new.write_text(text, "utf-8")
        new.replace(self.state)
        if self.starter is not None:
            os.close(self.starter)
            self.starter = None

    def forget(self) -> None:
        """Removes what `announce` wrote."""
        self.state.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ends the server: politely, then at once."""
        self.forget()
        for number, seconds in ((FAST_STOP, STOP_S), (signal.SIGQUIT, 10.0)):
            self.server.send_signal(number)
            try:
                self.server.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                self.say(f"the server does not stop after {seconds:g} s")
        self.server.kill()
        self.server.wait()

    def say(self, text: str) -> None:
        """A line in the log, which the server writes too."""
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        print(f"{now} UTC [{os.getpid()}] KEEPER:  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    sys.exit(Keeper(json.loads(sys.argv[1])).run())
