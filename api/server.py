"""An HTTP server of this process, over a socket that gives up on clients that do not read."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, Final

import uvicorn

from compute.errors import InvalidInput

UNREAD_SECONDS: Final = 30.0
STOP_SECONDS: Final = 3


def listening(host: str, port: int, unread_seconds: float = UNREAD_SECONDS) -> socket.socket:
    """A listening socket; port 0 is any free one.

    A connection whose client takes nothing of what was sent for `unread_seconds` is dropped by the
    kernel. Raises: InvalidInput when the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, the second
    # segment of an answer waits for the client's delayed acknowledgement, some 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(unread_seconds * 1000))
        found.bind((host, port))
        found.listen(2048)
        found.setblocking(False)
    except (OSError, OverflowError) as error:
        found.close()
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}; "
            "choose another --port, or stop what uses it"
        ) from error
    return found


def url_of(found: socket.socket) -> str:
    """Where a client on this machine reaches the socket."""
    host, port = found.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves an application until `stop`; signals are left to whoever runs it.

    `stopping` is called first, so that long answers can end themselves; those that have not after
    `STOP_SECONDS` are cut off.
    """

    def __init__(self, app: Any, stopping: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on",
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the handlers of signals as they are."""
        yield

    def stop(self) -> None:
        """Asks it to end; `serve` returns when it has."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what is being answered."""
        self._stopping()
        await super().shutdown(sockets)
