"""How Telegram is talked to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from compute.errors import InvalidInput

MODES: Final = ("log_only", "telegram")
_TOKEN: Final = re.compile(r"[\w:.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """How messages are sent; `bot_token` comes from the environment alone. Raises: InvalidInput."""

    enabled: bool = False
    mode: str = "log_only"
    api_base_url: str = "https://api.telegram.org"
    send_timeout_s: float = 3.0
    debounce_failed_seconds: float = 600.0
    bot_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidInput(f"mode must be {' or '.join(MODES)}, got {self.mode!r}")
        if not self.api_base_url.startswith(("http://", "https://")):
            raise InvalidInput("api_base_url must begin with http:// or https://")
        object.__setattr__(self, "api_base_url", self.api_base_url.rstrip("/"))
        if not self.send_timeout_s > 0:
            raise InvalidInput("send_timeout_s must be > 0")
        if not self.debounce_failed_seconds >= 0:
            raise InvalidInput("debounce_failed_seconds must be >= 0")
        object.__setattr__(self, "bot_token", self.bot_token.strip())
        if not self.talks:
            return
        if not self.bot_token:
            raise InvalidInput("mode is telegram, but the bot token is not set")
        if not _TOKEN.fullmatch(self.bot_token):
            raise InvalidInput("the bot token has characters that no token has")

    @property
    def talks(self) -> bool:
        """Whether there is a bot behind it, not just a log."""
        return self.enabled and self.mode == "telegram"
