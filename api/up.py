"""Everything on one machine: API and ingestion in this process, Ray and job runners beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
import uvloop

from api.app import create_app, end_streams
from api.beside import Beside, Work
from api.children import Child, Program
from api.context import AppContext
from api.server import Server, url_of

log = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05

Say = Callable[[str], None]


class NotReady(Exception):
    """The service ended, or did not become ready, while it was started."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: `runners` runners on a Ray cluster of `cpus` cores; `ingest` and `live` beside
    the API, in this process.

    `environment` is what the runners get beside this process's own; `runner_ports` are those of
    their metrics. Ray has a dashboard where a `dashboard_token` says into which file goes what it
    asks for. `operator` is whom a link of the table logs in, for a person who reads it. `places`
    are further lines of the table, by name.
    """

    socket: socket.socket
    logs: Path
    runners: int = 1
    cpus: int | None = None
    dashboard_token: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    runner_ports: tuple[int, ...] = ()
    ingest: Work | None = None
    live: Work | None = None
    operator: UUID | None = None
    places: Mapping[str, str] = field(default_factory=dict)


class Up:
    """The service of one machine, from its start to its end; used once."""

    def __init__(self, context: AppContext, plan: Plan, say: Say) -> None:
        self._context, self._plan, self._say = context, plan, say
        self._stop = asyncio.Event()
        self._server = Server(create_app(context), lambda: end_streams(context))
        self._runner_ports = list(plan.runner_ports)
        self._ray_place: dict[str, str | None] = {}
        self._ray_there = asyncio.Event()
        self._drains: set[asyncio.Task[None]] = set()
        self._ray = Child(
            self._ray_program(), say, prepared=self._ray_starts, began=self._ray_began
        )
        self._runners = [
            Child(
                self._runner_program(number),
                say,
                prepared=partial(self._runner_environment, number),
            )
            for number in range(plan.runners)
        ]

    async def run(self) -> None:
        """Runs until SIGINT or SIGTERM, then stops everything. Raises: NotReady."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked)
        serving = asyncio.create_task(self._server.serve(sockets=[self._plan.socket]))
        beside: list[asyncio.Task[None]] = []
        try:
            if self._runners:
                self._ray.begin()
                for runner in self._runners:
                    runner.begin()
            for name, work, made in (
                ("ingestion", self._plan.ingest, None),
                ("live runner", self._plan.live, uvloop.new_event_loop),
            ):
                if work is not None:
                    kept = Beside(work, self._say, name, loop=made).kept(self._stop)
                    beside.append(asyncio.create_task(kept, name=name))
            await self._ready(serving)
            if not self._stop.is_set():
                self._context.pool.warm()
                self._say(self.table())
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait((stopped, serving), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if serving.done() and not self._stop.is_set():
                raise NotReady("the API ended by itself; the log has the reason")
        finally:
            await self._ended(serving, beside)

    def table(self) -> str:
        """Where everything is, and at its end what to open."""
        url, plan = url_of(self._plan.socket), self._plan
        ports = ", ".join(map(_metrics, self._runner_ports))
        rows = {
            "API": url,
            "API docs": f"{url}/docs",
            "metrics": f"{url}/metrics" + (f", of runners {ports}" if ports else ""),
        }
        if self._runners:
            dashboard = self._ray_place.get("dashboard_url")
            place = self._ray_place.get("address") or "starting"
            rows["Ray"] = place + (f", dashboard {dashboard}" if dashboard else "")
            if dashboard:
                rows["Ray token"] = str(plan.dashboard_token)
            rows["runners"] = str(len(self._runners))
        home = plan.logs.parent
        ours = [Path(one).name for one in plan.places.values() if Path(one).parent == home]
        rows |= {name: one for name, one in plan.places.items() if Path(one).parent != home}
        rows["data"] = f"{home}, with {', '.join([*ours, plan.logs.name])}"
        width = max(map(len, rows)) + 2
        head = f"roehub is up, pid {os.getpid()}; Ctrl-C stops it"
        lines = [f"  {name.ljust(width)}{value}" for name, value in rows.items()]
        rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 78
        return "\n".join([head, *lines, "", rule, *self._opened(url), rule])

    def _opened(self, url: str) -> list[str]:
        """What is to be opened now, as it is told last."""
        plan, identity = self._plan, self._context.identity
        trial = f"  From a shell, try: roehub submit REQUEST.json --follow --api {url}"
        if plan.operator is not None and identity is not None:
            link = f"{url}/auth/links/{identity.links.make(plan.operator)}"
            within = (
                "  Open this in a browser (it works once, within a minute; later `roehub login`):"
            )
            return [within, "", f"  {link}", "", trial]
        login = ", which `roehub login` logs in" if "operator" in plan.places else ""
        return [f"  Open {url}/ in a browser{login}", trial]

    def _asked(self) -> None:
        """A signal: the first one stops, a second one at once."""
        if self._stop.is_set():
            for child in (*self._runners, self._ray):
                child.kill()
        else:
            self._say("stopping")
        self._stop.set()

    async def _ready(self, serving: asyncio.Task[None]) -> None:
        """Returns when the service says that it is ready and the cluster is there, or on a stop.

        Raises: NotReady.
        """
        said = "it does not answer"
        try:
            async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(trust_env=False) as client:
                while not self._stop.is_set():
                    if serving.done():
                        raise NotReady("the API did not start; the log has the reason")
                    with suppress(httpx.TransportError):
                        answer = await client.get(f"{url_of(self._plan.socket)}/ready")
                        said = answer.text
                        if answer.is_success and (self._ray_there.is_set() or not self._runners):
                            return
                        if answer.is_success:
                            said = "Ray has not started"
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            if said != "Ray has not started":
                raise NotReady(f"not ready after {READY_SECONDS:g} s: {said}") from None
            self._say(f"{said} after {READY_SECONDS:g} s; jobs wait for it")

    async def _ended(self, serving: asyncio.Task[None], beside: list[asyncio.Task[None]]) -> None:
        """Stops everything: what takes work in first, then what does it, then what it is done on.

        The stores are closed by whoever opened them.
        """
        self._stop.set()
        self._server.stop()
        ends = (asyncio.create_task(runner.end()) for runner in self._runners)
        first = [serving, *ends, *beside]
        _, late = await asyncio.wait(first, timeout=2 * STOP_SECONDS)
        for task in late:
            log.warning("%s does not stop and is left", task.get_name())
            task.cancel()
        for task in (*first, *late):
            with suppress(asyncio.CancelledError, Exception):
                await task
        await self._ray.end()
        if self._plan.dashboard_token is not None:
            self._plan.dashboard_token.unlink(missing_ok=True)
        for task in self._drains:
            task.cancel()

    def _ray_program(self) -> Program:
        cpus = [] if self._plan.cpus is None else ["--cpus", str(self._plan.cpus)]
        dashboard = [] if self._plan.dashboard_token is None else ["--dashboard"]
        # Ended politely even when this process is killed: its agents would live on for a minute.
        return Program(
            "Ray",
            [sys.executable, "-m", "api.ray_host", *cpus, *dashboard],
            self._plan.logs / "ray.log",
            self._plan.environment,
            patience_seconds=STOP_SECONDS,
            orphaned=signal.SIGTERM,
        )

    def _runner_program(self, number: int) -> Program:
        return Program(
            "job runner" if self._plan.runners == 1 else f"job runner {number + 1}",
            [sys.executable, "-m", "api.cli", "jobs"],
            self._plan.logs / f"runner-{number + 1}.log",
            self._plan.environment,
            patience_seconds=STOP_SECONDS,
        )

    async def _ray_starts(self) -> Mapping[str, str]:
        """The place of a cluster that is gone is forgotten."""
        self._ray_there.clear()
        return {}

    async def _ray_began(self, process: asyncio.subprocess.Process) -> None:
        """Reads where the cluster is; runners of one that was there before are started anew."""
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            return  # it ended; whoever waits for it says why
        known = bool(self._ray_place)
        self._ray_place = json.loads(line)
        if self._plan.dashboard_token is not None:
            write_secret(self._plan.dashboard_token, self._ray_place["token"] or "")
        self._ray_there.set()
        drain = asyncio.create_task(_drained(process.stdout))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        if known:
            for runner in self._runners:
                runner.ask()

    async def _runner_environment(self, number: int) -> Mapping[str, str]:
        """What a runner needs to join the cluster, which it waits for, and its port of metrics."""
        await self._ray_there.wait()
        wanted = self._runner_ports[number]
        port = self._runner_ports[number] = free_port(wanted)
        if port != wanted:
            name = self._runners[number].program.name
            self._say(f"port {wanted} is taken; metrics of {name} are at {_metrics(port)}")
        return {
            "ROEHUB_JOBS_METRICS_PORT": str(port),
            "ROEHUB_RAY_ADDRESS": self._ray_place["address"] or "",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._ray_place["token"] or "",
        }


def _metrics(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


async def _drained(stream: asyncio.StreamReader) -> None:
    """Takes what nobody reads, so that writing it never blocks."""
    while await stream.read(65536):
        pass


def write_secret(path: Path, secret: str) -> None:
    """Makes `path` hold a line that its user alone may read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secret}\n")


def free_port(wanted: int) -> int:
    """`wanted` where it is free on this machine, else one that is."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    return wanted


def data_directory(environ: Mapping[str, str]) -> Path:
    """Where the embedded stores and the logs are."""
    from ingest.stores.settings import DATA_DIR

    root = environ.get("ROEHUB_DATA_DIR", "").strip() or DATA_DIR
    return Path(root).expanduser().absolute()


def this_process(url: str) -> dict[str, object]:
    """What a second `roehub up` is told."""
    return {"pid": os.getpid(), "url": url}
