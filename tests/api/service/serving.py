"""The service on a loopback port, in a thread of the test process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from api.server import UNREAD_SECONDS, Server, listening, url_of


@contextmanager
def served(
    made: Callable[[], FastAPI],
    *,
    stopping: Callable[[], None] = lambda: None,
    unread_seconds: float = UNREAD_SECONDS,
    port: int = 0,
) -> Iterator[str]:
    """URL of the application that `made` makes in the server's own thread and event loop."""
    socket = listening("127.0.0.1", port, unread_seconds)
    servers: list[Server] = []
    failures: list[BaseException] = []
    began = threading.Event()

    async def serve() -> None:
        server = Server(made(), stopping)
        servers.append(server)
        task = asyncio.create_task(server.serve(sockets=[socket]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        began.set()
        await task
        if not server.started:
            raise RuntimeError("the application did not start; see the log")

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failures.append(error)
            began.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        assert began.wait(60)
        if failures:
            raise failures[0]
        yield url_of(socket)
    finally:
        for server in servers:
            server.stop()
        thread.join(30)
        socket.close()
        assert not thread.is_alive()
