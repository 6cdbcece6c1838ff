"""A way to a server that tests cut: TCP or a Unix socket in front, the real server behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit


class Way:
    """Passes bytes both ways until it is cut; `lose` cuts it at a text that a client sends.

    A lost text reaches the server when `arrives`; its answer never reaches the client.
    """

    def __init__(self) -> None:
        self.up = True
        self.cuts = 0
        self._lost, self._arrives = b"", False
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends all connections and takes no others until `mend`."""
        self.up = False
        self._end()

    def mend(self) -> None:
        """Takes connections again."""
        self.up = True

    def lose(self, text: bytes, *, arrives: bool) -> None:
        """Cuts the next connection that sends `text`."""
        self._lost, self._arrives = text, arrives

    def _end(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _between(
        self,
        front: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        back: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        if not self.up:
            front[1].transport.abort()
            back[1].transport.abort()
            return
        both = {front[1], back[1]}
        self._open |= both
        try:
            passing = self._passed(back[0], front[1])
            await asyncio.gather(self._asked(front, back), passing, return_exceptions=True)
        finally:
            self._open -= both
            for writer in both:
                writer.transport.abort()

    async def _asked(
        self,
        front: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        back: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        while some := await front[0].read(65536):
            if self._lost and self._lost in some:
                self._lost, self.cuts = b"", self.cuts + 1
                front[1].transport.abort()
                if self._arrives:  # the answer finds nobody, which ends both
                    back[1].write(some)
                else:
                    back[1].transport.abort()
                return
            back[1].write(some)
            await back[1].drain()
        back[1].transport.abort()

    @staticmethod
    async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def way_to_postgres(dsn: str) -> AsyncIterator[tuple[Way, str]]:
    """A way to the server of `dsn`, and the DSN over it."""
    way, parts = Way(), urlsplit(dsn)

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            back = await asyncio.open_connection(parts.hostname, parts.port)
            await way._between((reader, writer), back)

    server = await asyncio.start_server(arrived, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    place = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
    async with server:
        yield way, urlunsplit(parts._replace(netloc=place))
        way.cut()


@asynccontextmanager
async def way_to_socket(behind: Path, front: Path) -> AsyncIterator[Way]:
    """A way from a Unix socket to another one."""
    way = Way()

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            back = await asyncio.open_unix_connection(behind)
            await way._between((reader, writer), back)

    async with await asyncio.start_unix_server(arrived, front):
        yield way
        way.cut()
