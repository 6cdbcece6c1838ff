"""Holds a Ray cluster of this machine for other processes; a program of its own.

It prints one line of JSON once the cluster runs: `{"address", "token", "dashboard_url"}`. The
cluster ends with it: politely, by a child that started it, or at once. Ray's processes outlive a
child that is killed, so they are made children of this process, which ends whatever is left.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from api.tether import tethered

PATIENCE_SECONDS: Final = 6.0
_PR_SET_CHILD_SUBREAPER: Final = 36
_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_POLL_SECONDS: Final = 1.0


def main() -> int:
    """Exit status: 0 after a stop that was asked for, 1 when the cluster ended by itself."""
    options = argparse.ArgumentParser(prog="python -m api.ray_host")
    options.add_argument("--cpus", type=int)
    options.add_argument("--dashboard", action="store_true")
    options.add_argument("--holder", action="store_true", help="start the cluster in this process")
    chosen = options.parse_args()
    if chosen.holder:
        hold(chosen.cpus, chosen.dashboard)
        return 0
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    command = [sys.executable, "-m", "api.ray_host", "--holder", *sys.argv[1:]]
    command = tethered(command, signal.SIGTERM)
    holder = os.posix_spawn(command[0], command, os.environ, setsigmask=())
    try:
        return watch(holder)
    finally:
        end_descendants()


def watch(holder: int) -> int:
    """Waits for the holder's end, or for a signal to end it; the exit status."""
    deadline: float | None = None
    while deadline is None or time.monotonic() < deadline:
        found = signal.sigtimedwait(_SIGNALS, _POLL_SECONDS)
        if found is not None and found.si_signo != signal.SIGCHLD and deadline is None:
            os.kill(holder, signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_SECONDS
        if holder in reaped():
            break
    return 1 if deadline is None else 0


def hold(cpus: int | None, dashboard: bool) -> None:
    """Starts the cluster, says where it is, waits for SIGTERM or SIGINT."""
    # A stop that comes while Ray starts must still take down what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    from cluster.ray_session import ray_session

    with suppress(KeyboardInterrupt), ray_session(None, cpus, dashboard=dashboard) as session:
        # Ray takes SIGTERM for itself when it starts.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        place = {
            "address": session.address,
            "token": os.environ["RAY_AUTH_TOKEN"],
            "dashboard_url": session.dashboard_url,
        }
        print(json.dumps(place), flush=True)
        while True:
            signal.pause()


def end_descendants() -> None:
    """Kills every process that this one or its children started, until there is none."""
    while found := descendants(os.getpid()):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reaped()
        time.sleep(0.01)


def descendants(root: int) -> list[int]:
    """Ids of the living processes below `root`."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name in brackets may hold anything.
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found, level = [], [root]
    while level:
        level = [child for pid in level for child in children.get(pid, ())]
        found += level
    return found


def reaped() -> set[int]:
    """Children that have ended, own ones and those that became it."""
    found: set[int] = set()
    with suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            found.add(pid)
    return found


if __name__ == "__main__":
    sys.exit(main())
