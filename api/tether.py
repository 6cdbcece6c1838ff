"""Runs a command that dies with its parent: `python -m api.tether PARENT SIGNAL COMMAND…`.

The kernel sends the signal when the parent is gone, however it ended; the setting survives `exec`.
Imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def tethered(command: Sequence[str], number: signal.Signals) -> list[str]:
    """`command` as a child of this process's main thread that gets `number` when this one dies."""
    return [sys.executable, "-m", "api.tether", str(os.getpid()), str(int(number)), *command]


def main(arguments: Sequence[str]) -> None:
    """Ties this process to its parent and becomes the command."""
    parent, number, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != int(parent):  # it died before the kernel was told
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
