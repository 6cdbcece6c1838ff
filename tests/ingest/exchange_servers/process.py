"""A server of the tests in its own process, for measurements that must not share its thread."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from tests.ingest.exchange_servers.server import ExchangeServer


def wall_clock() -> int:
    """Now, in UTC milliseconds."""
    return time.time_ns() // 1_000_000


class ServerProcess:
    """A server on the wall clock, whose methods are called by name:

    with ServerProcess(BybitServer) as server:
        server.call("enlist", 4, *symbols, first_ms=...)
        client(server.stream_url(4))
        server.call("burst", 4, None, minute_ms)

    `enlist`, `drop` and `mend` go to the tape of the market that is named first, everything else
    to the server. A call returns what the method does, when it has done it.
    """

    def __init__(self, kind: type[ExchangeServer]) -> None:
        self._kind = kind
        self._pipe: Connection
        self._rest_url = ""

    def __enter__(self) -> ServerProcess:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._kind, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._rest_url = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
        self._pipe.close()

    @property
    def rest_url(self) -> str:
        """Base URL of REST."""
        return self._rest_url

    def stream_url(self, market_id: int) -> str:
        """Base URL of a market's stream."""
        return self.call("stream_url", market_id)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of the server, or of a market's tape, returns."""
        self._pipe.send((name, args, kwargs))
        failed, result = self._pipe.recv()
        if failed:
            raise RuntimeError(f"the server's {name} failed: {result}")
        return result


def _serve(kind: type[ExchangeServer], pipe: Connection) -> None:
    with kind(wall_clock) as server:
        pipe.send(server.rest_url)
        while (asked := pipe.recv()) is not None:
            name, args, kwargs = asked
            try:
                if name in ("enlist", "drop", "mend"):
                    market_id, *args = args
                    result = getattr(server.tape(market_id), name)(*args, **kwargs)
                else:
                    found = getattr(server, name)
                    result = found(*args, **kwargs) if callable(found) else found
                pipe.send((False, result))
            except Exception as error:
                pipe.send((True, repr(error)))
