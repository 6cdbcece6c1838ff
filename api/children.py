"""Processes that one process keeps running: started, watched, started again, stopped in time.

A child leads a process group of its own, so that Ctrl-C in a terminal reaches the parent alone, and
whatever a child leaves behind in its group ends with it. Its output goes to a log file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api.tether import tethered

log = logging.getLogger(__name__)

STEADY_SECONDS: Final = 30.0
_WITHHELD: Final = ("IDENTITY_", "TELEGRAM_", "ROEHUB_TOKEN")
_LAST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `stop` asks it to end, within `patience_seconds`; `orphaned` is what the kernel
    sends it when this process is killed."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM
    patience_seconds: float = 10.0
    orphaned: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses before a dead child is started again: doubled each time, up to a longest one."""

    first_seconds: float = 0.5
    longest_seconds: float = 30.0

    def pause(self, failures: int) -> float:
        """The pause after so many failures in a row."""
        return min(self.first_seconds * 2 ** (failures - 1), self.longest_seconds)


class Child:
    """One program, running until `end`.

    `say` hears of deaths. `prepared` is awaited before each start and may change the environment;
    `began` hears of each start.
    """

    def __init__(
        self,
        program: Program,
        say: Callable[[str], None],
        *,
        backoff: Backoff | None = None,
        prepared: Callable[[], Awaitable[Mapping[str, str]]] | None = None,
        began: Callable[[asyncio.subprocess.Process], Awaitable[None]] | None = None,
    ) -> None:
        self.program = program
        self.starts = 0
        self._say = say
        self._backoff = backoff or Backoff()
        self._prepared = prepared
        self._began = began
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    def begin(self) -> None:
        """Starts it, and starts it again whenever it ends by itself."""
        self._task = asyncio.create_task(self._kept(), name=self.program.name)

    async def end(self) -> None:
        """Stops it: politely, then at once; and whatever it left in its group."""
        self._ending = True
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(self.program.stop)
            try:
                await asyncio.wait_for(process.wait(), self.program.patience_seconds)
            except TimeoutError:
                log.warning(
                    "%s does not stop after %g s and is killed",
                    self.program.name,
                    self.program.patience_seconds,
                )
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._clear()

    def ask(self) -> None:
        """Asks the process to end; it is started again."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, self.program.stop)

    def kill(self) -> None:
        """Ends the process and its group at once; it is started again."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    async def _kept(self) -> None:
        failures = 0
        while not self._ending:
            began = time.monotonic()
            status = await self._run()
            if self._ending:
                return
            failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            pause = self._backoff.pause(failures)
            self._say(
                f"{self.program.name} {_ended(status)}; starting it again in {pause:g} s"
                f"{_reason(self.program.log)}"
            )
            await asyncio.sleep(pause)

    async def _run(self) -> int:
        """Exit status of one life."""
        changes = dict(await self._prepared()) if self._prepared is not None else {}
        program = self.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(program.command, program.orphaned),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file if self._began is None else asyncio.subprocess.PIPE,
                stderr=file,
                env={**inherited(os.environ), **program.environment, **changes},
                start_new_session=True,
            )
        self.starts += 1
        try:
            if self._began is not None:
                await self._began(self._process)
            return await self._process.wait()
        finally:
            await self._clear()

    async def _clear(self) -> None:
        """Ends what is left of the process and its group."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def _reason(path: Path) -> str:
    """The last line of its log, and where the rest is."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; last it said: {said[:200]} ({path})" if said else ""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child gets of our environment: it computes, and needs no secret of users."""
    return {name: value for name, value in environ.items() if not name.startswith(_WITHHELD)}
