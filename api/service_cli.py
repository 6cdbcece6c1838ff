"""`roehub api`: the service on a port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ingest.commands.options import LogFormat, Logs, logs_to_stderr

if TYPE_CHECKING:
    from socket import socket

    from api.context import AppContext
    from api.server import Server


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 is any free one.", min=0, max=65535)] = 8000,
    log_format: Logs = LogFormat.text,
) -> None:
    """Serve the API over the stores that the environment names, until it is interrupted."""
    import asyncio
    import os

    logs_to_stderr(log_format)
    from api.app import create_app, end_streams, service
    from api.server import Server, listening

    with listening(host, port) as found, service(os.environ) as context:
        server = Server(create_app(context), lambda: end_streams(context))
        asyncio.run(_served(server, found, context))


async def _served(server: Server, found: socket, context: AppContext) -> None:
    """Serves until SIGINT or SIGTERM; says where, once it does."""
    import asyncio
    import signal

    from api.server import url_of

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    serving = asyncio.create_task(server.serve(sockets=[found]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    if server.started:
        context.pool.warm()
        url = url_of(found)
        typer.echo(f"serving {url}, documented at {url}/docs")
    await serving
    if not server.started:
        raise typer.Exit(1)  # the log has the reason
