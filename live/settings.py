"""Settings of the live runner: sections of `strategy.yaml`, each of which checks itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from compute.errors import InvalidInput
from live.access import RepairSettings
from live.feed import FeedSettings
from live.output import OutputSettings
from live.runner import RunnerSettings
from live.telegram.settings import TelegramSettings

if TYPE_CHECKING:
    from ingest.stores.valkey import RedisSettings


def _named(settings: object, *names: str) -> None:
    """Refuses a text that is blank; None is none."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value.strip():
            raise InvalidInput(f"{name} is blank")


def _positive(settings: object, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) > 0:
            raise InvalidInput(f"{name} must be > 0, got {getattr(settings, name)}")


def _check_server(settings: StreamSettings | RealtimeSettings) -> None:
    _named(settings, "host", "password_env")
    _positive(settings, "port", "socket_timeout_s", "connect_timeout_s")
    if settings.db < 0:
        raise InvalidInput(f"db must be >= 0, got {settings.db}")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Whether runs are advanced, how often they are looked for, how long instruments are held.

    `reconcile_hours` is the pause between two checks of a run against its back-test; its bars are
    deleted `keep_bars_days` after its end and the last check.
    """

    SECTIONS: ClassVar = ("strategy.live_worker",)

    enabled: bool = True
    poll_interval_seconds: float = 5.0
    lease_seconds: float = 10.0
    reconcile_hours: float = 24.0
    keep_bars_days: float = 90.0

    def __post_init__(self) -> None:
        _positive(
            self, "poll_interval_seconds", "lease_seconds", "reconcile_hours", "keep_bars_days"
        )


@dataclass(frozen=True, slots=True)
class StreamSettings(FeedSettings):
    """The live feed. Without a `host` it is where REDIS_HOST says, else a server of our own."""

    SECTIONS: ClassVar = ("strategy.live_worker.redis_streams",)

    enabled: bool = True
    host: str | None = None
    port: int = 6379
    db: int = 0
    password_env: str | None = "ROEHUB_REDIS_PASSWORD"  # nosec B105: the name of a variable
    socket_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        FeedSettings.__post_init__(self)
        _check_server(self)
        if self.block_ms / 1000 >= self.socket_timeout_s:
            raise InvalidInput("block_ms must be shorter than socket_timeout_s")

    def server(self, environ: Mapping[str, str]) -> RedisSettings:
        """The server of the environment, else of the file, else our own. Raises: InvalidInput."""
        from ingest.stores.valkey import RedisSettings

        known = {name: value for name, value in environ.items() if value.strip()}
        if self.host is not None:
            known = {
                "REDIS_HOST": self.host,
                "REDIS_PORT": str(self.port),
                "REDIS_DB": str(self.db),
                **known,
            }
        return RedisSettings.from_environment(
            known,
            password_env=self.password_env,
            socket_timeout_s=self.socket_timeout_s,
            connect_timeout_s=self.connect_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class RealtimeSettings(OutputSettings):
    """Streams of metrics and events for users. Without a `host` they are on the feed's server."""

    SECTIONS: ClassVar = ("strategy.realtime_output.redis_streams",)

    enabled: bool = False
    host: str | None = None
    port: int = 6379
    db: int = 0
    password_env: str | None = "ROEHUB_REDIS_PASSWORD"  # nosec B105: the name of a variable
    socket_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if self.enabled:
            OutputSettings.__post_init__(self)
            _check_server(self)

    def server(self, environ: Mapping[str, str]) -> RedisSettings | None:
        """The server of their own, None where they have none. Raises: InvalidInput."""
        from ingest.stores.valkey import RedisSettings

        if self.host is None:
            return None
        return RedisSettings(
            self.host,
            self.port,
            self.db,
            environ.get(self.password_env or "", ""),
            self.socket_timeout_s,
            self.connect_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class MessageSettings:
    """Messages to Telegram and what a bot is told; `bot_token_env` names its token's variable."""

    SECTIONS: ClassVar = ("strategy.telegram",)

    enabled: bool = False
    mode: str = "log_only"
    bot_token_env: str = "TELEGRAM_BOT_TOKEN"  # nosec B105: the name of a variable
    api_base_url: str = "https://api.telegram.org"
    send_timeout_s: float = 3.0
    debounce_failed_seconds: float = 600.0

    def __post_init__(self) -> None:
        _named(self, "bot_token_env")
        self._checked(enabled=False, bot_token="")  # nosec B106: the token is not in the file

    def telegram(self, environ: Mapping[str, str]) -> TelegramSettings:
        """With the token. Raises: InvalidInput where it is needed and not there."""
        token = environ.get(self.bot_token_env, "").strip()
        if self.enabled and self.mode == "telegram" and not token:
            raise InvalidInput(
                f"strategy.telegram.mode is telegram, but {self.bot_token_env} is not set; set it"
                " to the token of the bot, or let the mode be log_only"
            )
        return self._checked(self.enabled, token)

    def _checked(self, enabled: bool, bot_token: str) -> TelegramSettings:
        return TelegramSettings(
            enabled=enabled,
            mode=self.mode,
            api_base_url=self.api_base_url,
            send_timeout_s=self.send_timeout_s,
            debounce_failed_seconds=self.debounce_failed_seconds,
            bot_token=bot_token,
        )


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where /metrics, /health and /ready are."""

    SECTIONS: ClassVar = ("strategy.metrics",)

    port: int = 9203

    def __post_init__(self) -> None:
        if not 0 < self.port <= 65_535:
            raise InvalidInput(f"port must be 1 to 65535, got {self.port}")


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """All of them."""

    worker: WorkerSettings = WorkerSettings()
    streams: StreamSettings = StreamSettings()
    repair: RepairSettings = field(default_factory=RepairSettings)
    realtime: RealtimeSettings = RealtimeSettings()
    messages: MessageSettings = MessageSettings()
    metrics: MetricsSettings = MetricsSettings()

    def runner(self) -> RunnerSettings:
        """What the runner takes."""
        return RunnerSettings(
            self.worker.poll_interval_seconds, self.worker.lease_seconds, self.repair
        )
