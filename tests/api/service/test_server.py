"""The listening socket of the service."""

from __future__ import annotations

import asyncio
import socket

import pytest

from api.server import listening, url_of
from compute.errors import InvalidInput


def test_small_answers_are_sent_at_once() -> None:
    async def option() -> int:
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found = writer.get_extra_info("socket")
            asked.set_result(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening("127.0.0.1", 0) as found:
            host, port = url_of(found).removeprefix("http://").split(":")
            async with await asyncio.start_server(accepted, sock=found):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                return await asyncio.wait_for(asked, 10)

    assert asyncio.run(option()) == 1


def test_a_taken_port_is_refused() -> None:
    with listening("127.0.0.1", 0) as found:
        port = found.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port}"):
            listening("127.0.0.1", port)
