"""Why a market has no stream, told now and then: an outage is one reason, however often met."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

TELL_EVERY_S: Final = 60.0


class Complaints:
    """What is to be said of the failures of a socket at `url`."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._reason: str | None = None
        self._told_s = 0.0

    def about(self, error: Exception, now_s: float) -> str | None:
        """The reason, None when the same one was told within the last minute."""
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError):
            reason = (
                f"{self._host} cannot be reached ({reason}); check the network and this market's "
                f"ws.url; it is tried again until it can, and told once a minute"
            )
        if reason == self._reason and now_s < self._told_s + TELL_EVERY_S:
            return None
        self._reason, self._told_s = reason, now_s
        return reason
