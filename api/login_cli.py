"""`roehub login`: a browser on this machine is the local operator, too."""

from __future__ import annotations

from api.jobs_cli import Api, Token


def login(api: Api = None, token: Token = None) -> None:
    """Print a link that logs a browser in to the service that `roehub up` runs here.

    The link works once, within a minute. Elsewhere users log in with Telegram. A token of the
    environment, made for less than this, is not used where `roehub up` left its own.
    """
    from api.client import Client

    with Client(api, token=token, operator=True) as client:
        print(client.login_link())
