"""Queries that disturb the processes they run in, or report on them; imported by name there."""

from __future__ import annotations

import os
import pkgutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
from numba.core.dispatcher import Dispatcher

import compute
from compute.errors import InvalidCandles
from compute.selection import Best, Scan


def first(path: Path) -> bool:
    """Whether this is the first call with `path`, on this machine."""
    with suppress(FileExistsError):
        path.touch(exist_ok=False)
        return True
    return False


@dataclass(frozen=True, slots=True)
class Counting:
    """Adds up positions; a base for the others."""

    searches = False

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Any:
        return stop - start

    def merge(self, parts: Sequence[Any]) -> Any:
        return sum(parts)

    def nanoseconds(self, stage: Any) -> float:
        return 1e9


@dataclass(frozen=True, slots=True)
class DeadlyScan:
    """A scan whose worker process dies in the middle of one span, once."""

    searches = True

    scan: Scan
    mark: Path
    spares: int  # the driver, should a span ever run there

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Best:
        found = self.scan.part(stage, start, stop, check)
        if start > 0 and os.getpid() != self.spares and first(self.mark):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def merge(self, parts: Sequence[Best]) -> Best:
        return self.scan.merge(parts)

    def nanoseconds(self, stage: Any) -> float:
        return self.scan.nanoseconds(stage)


@dataclass(frozen=True, slots=True)
class DeadlyNodeScan:
    """A scan that takes its node down in the middle of one span, once, unless it is the head."""

    searches = True

    scan: Scan
    mark: Path
    head: str

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Best:
        found = self.scan.part(stage, start, stop, check)
        if ray.get_runtime_context().get_node_id() == self.head:
            # The head's only core is held until the other node has taken a task, and died of it.
            patience = time.monotonic() + 120
            while not self.mark.exists() and time.monotonic() < patience:
                time.sleep(0.01)
        elif first(self.mark):
            os.kill(os.getppid(), signal.SIGKILL)  # the raylet, parent of all workers of a node
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def merge(self, parts: Sequence[Best]) -> Best:
        return self.scan.merge(parts)

    def nanoseconds(self, stage: Any) -> float:
        return self.scan.nanoseconds(stage)


@dataclass(frozen=True, slots=True)
class Endless(Counting):
    """Ends only when it is told to; leaves a file when it begins and another when it ends."""

    directory: Path

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> int:
        (self.directory / f"began-{start}").touch()
        try:
            patience = time.monotonic() + 120
            while time.monotonic() < patience:
                check()
                time.sleep(0.01)
            raise AssertionError("nobody cancelled this task")
        finally:
            (self.directory / f"ended-{start}").touch()


@dataclass(frozen=True, slots=True)
class Failing(Counting):
    """Raises one of our errors, or one of Python's."""

    typed: bool

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> int:
        if self.typed:
            raise InvalidCandles("row 7 is odd", rows=[7])
        raise ValueError("a mistake of ours")


@dataclass(frozen=True, slots=True)
class Meeting(Counting):
    """The addresses of the nodes that worked, of which `count` wait for each other."""

    directory: Path
    count: int

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> frozenset[str]:
        node = ray.util.get_node_ip_address()
        (self.directory / node).touch()
        patience = time.monotonic() + 120
        while len(list(self.directory.iterdir())) < self.count and time.monotonic() < patience:
            time.sleep(0.01)
        return frozenset([node])

    def merge(self, parts: Sequence[frozenset[str]]) -> frozenset[str]:
        return frozenset[str]().union(*parts)


@dataclass(frozen=True, slots=True)
class Signatures(Counting):
    """The signatures for which each worker process has kernels, by its pid."""

    scan: Scan

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> dict[int, Any]:
        self.scan.part(stage, start, stop, check)
        return {os.getpid(): signatures()}

    def merge(self, parts: Sequence[dict[int, Any]]) -> dict[int, Any]:
        return {pid: found for part in parts for pid, found in part.items()}


def signatures() -> dict[str, set[str]]:
    """Signatures compiled or loaded in this process, by kernel of the modules it has imported."""
    found: dict[str, set[str]] = {}
    prefix = compute.__name__ + "."
    names = [item.name for item in pkgutil.walk_packages(compute.__path__, prefix)]
    for name in (name for name in names if name in sys.modules):
        for kernel in vars(import_module(name)).values():
            if isinstance(kernel, Dispatcher) and kernel.signatures:
                found[kernel.__qualname__] = {str(types) for types in kernel.signatures}
    return found
