"""Settings of market data: what `market_data.yaml` may say, and what is refused.

Every dataclass is a section of the file and checks itself; `MarketDataSettings` is the whole.
Composition roots fill it (`configs.load`), everything else is handed the part it needs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

from compute.errors import InvalidInput
from compute.market.period import epoch_ms, instant
from ingest.exchanges.registry import MARKETS, market

DAY_MINUTES: Final = 1440


def _instant_ms(name: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{name} must be a time like 2017-01-01T00:00:00Z, got {text!r}"
        ) from None
    if moment.tzinfo is None:
        raise InvalidInput(f"{name} must have a zone, like 2017-01-01T00:00:00Z; got {text!r}")
    return epoch_ms(moment)


def _listed(ids: Collection[int]) -> str:
    return ", ".join(str(one) for one in ids)


def _filled(section: object, name: str) -> None:
    if not getattr(section, name).strip():
        raise InvalidInput(f"{name} must not be blank")


def _positive(section: object, *names: str) -> None:
    for name in names:
        if not getattr(section, name) > 0:
            raise InvalidInput(f"{name} must be > 0, got {getattr(section, name)}")


def _not_negative(section: object, *names: str) -> None:
    for name in names:
        if not getattr(section, name) >= 0:
            raise InvalidInput(f"{name} must be >= 0, got {getattr(section, name)}")


def _ordered(section: object, low: str, high: str) -> None:
    if getattr(section, low) > getattr(section, high):
        raise InvalidInput(
            f"{low} must not be above {high}, got {getattr(section, low)} and "
            f"{getattr(section, high)}"
        )


def _one_of(section: object, name: str, allowed: Collection[str]) -> None:
    value = getattr(section, name)
    if value not in allowed:
        raise InvalidInput(f"{name} must be {' or '.join(allowed)}, got {value!r}")


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Pause before attempt n + 1 of a request: min(max_s, base_s * 2^n) + U(0, 1) * jitter_s."""

    base_s: float
    max_s: float
    jitter_s: float

    def __post_init__(self) -> None:
        _positive(self, "base_s", "max_s")
        _not_negative(self, "jitter_s")
        _ordered(self, "base_s", "max_s")


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """Use of an exchange's own limits: the share of them to take, and requests at one time."""

    mode: str
    safety_factor: float
    max_concurrency: int

    def __post_init__(self) -> None:
        _one_of(self, "mode", ("autodetect",))
        if not 0 < self.safety_factor <= 1:
            raise InvalidInput(f"safety_factor must be > 0 and <= 1, got {self.safety_factor}")
        _positive(self, "max_concurrency")


@dataclass(frozen=True, slots=True)
class RestSettings:
    """REST of a market; `earliest_available_ts_utc` is where its history begins at most."""

    base_url: str
    earliest_available_ts_utc: str
    timeout_s: float
    retries: int
    backoff: BackoffSettings
    limiter: LimiterSettings

    def __post_init__(self) -> None:
        _filled(self, "base_url")
        _ = self.earliest_ms
        _positive(self, "timeout_s")
        _not_negative(self, "retries")

    @property
    def earliest_ms(self) -> int:
        """`earliest_available_ts_utc` in UTC milliseconds."""
        return _instant_ms("earliest_available_ts_utc", self.earliest_available_ts_utc)


@dataclass(frozen=True, slots=True)
class ReconnectSettings:
    """Pause before a stream is opened again; each one is `factor` times the one before it."""

    min_delay_s: float
    max_delay_s: float
    factor: float
    jitter_s: float

    def __post_init__(self) -> None:
        _positive(self, "min_delay_s", "max_delay_s")
        _not_negative(self, "jitter_s")
        _ordered(self, "min_delay_s", "max_delay_s")
        if self.factor < 1:
            raise InvalidInput(f"factor must be >= 1, got {self.factor}; pauses would shrink")


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """Streams of a market."""

    url: str
    ping_interval_s: float
    pong_timeout_s: float
    reconnect: ReconnectSettings
    max_symbols_per_connection: int

    def __post_init__(self) -> None:
        _filled(self, "url")
        _positive(self, "ping_interval_s", "pong_timeout_s", "max_symbols_per_connection")


@dataclass(frozen=True, slots=True)
class MarketSettings:
    """A market that this installation works with, and how to reach it."""

    market_id: int
    exchange: str
    market_type: str
    market_code: str
    rest: RestSettings
    ws: WebSocketSettings

    def __post_init__(self) -> None:
        known = market(self.market_id)
        _one_of(self, "exchange", sorted({m.exchange for m in MARKETS.values()}))
        _one_of(self, "market_type", sorted({m.market_type for m in MARKETS.values()}))
        code = f"{self.exchange}:{self.market_type}"
        if code != known.code:
            raise InvalidInput(f"market_id {self.market_id} is {known.code}, got {code}")
        if self.market_code != code:
            raise InvalidInput(f"market_code must be {code}, got {self.market_code!r}")


@dataclass(frozen=True, slots=True)
class RawWriteSettings:
    """The older place of the two flush keys, which wins."""

    flush_interval_ms: int | None = None
    max_buffer_rows: int | None = None


@dataclass(frozen=True, slots=True)
class IngestionSettings:
    """How candles are written, and how many instruments are fetched at a time.

    The two flush keys are required, here or in `raw_write`; after that they hold what counts.
    """

    flush_interval_ms: int = 0
    max_buffer_rows: int = 0
    raw_write: RawWriteSettings | None = None
    rest_concurrency_instruments: int = 4
    tail_lookback_minutes: int = 180
    rest_inter_instrument_delay_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flush_interval_ms", "max_buffer_rows"):
            given = None if self.raw_write is None else getattr(self.raw_write, name)
            if given is not None:
                object.__setattr__(self, name, given)
        if not 1 <= self.flush_interval_ms <= 500:
            raise InvalidInput(
                f"flush_interval_ms is required and must be 1 to 500, got {self.flush_interval_ms}"
            )
        if self.max_buffer_rows <= 0:
            raise InvalidInput(
                f"max_buffer_rows is required and must be > 0, got {self.max_buffer_rows}"
            )
        _positive(self, "rest_concurrency_instruments", "tail_lookback_minutes")
        _not_negative(self, "rest_inter_instrument_delay_s")


@dataclass(frozen=True, slots=True)
class RedisStreamsSettings:
    """Where live candles are published, if they are.

    Without a `host` it is the one that REDIS_HOST names, else a server of our own beside the
    embedded store. `password_env` names the environment variable with the password.
    """

    enabled: bool = False
    host: str | None = None
    port: int = 6379
    db: int = 0
    password_env: str | None = "ROEHUB_REDIS_PASSWORD"
    socket_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    stream_mode: str = "per_instrument"
    stream_prefix: str = "md.candles.1m"
    retention_days: int = 7
    maxlen_approx: int | None = None

    def __post_init__(self) -> None:
        if self.host is not None:
            _filled(self, "host")
        if self.password_env is not None:
            _filled(self, "password_env")
        if not 1 <= self.port <= 65535:
            raise InvalidInput(f"port must be 1 to 65535, got {self.port}")
        _not_negative(self, "db")
        _positive(self, "socket_timeout_s", "connect_timeout_s", "retention_days")
        if self.maxlen_approx is not None:
            _positive(self, "maxlen_approx")
        _one_of(self, "stream_mode", ("per_instrument",))
        _filled(self, "stream_prefix")

    @property
    def maxlen(self) -> int:
        """Entries a stream keeps, about: as told, else a minute each for the days to keep."""
        return self.maxlen_approx or self.retention_days * DAY_MINUTES


@dataclass(frozen=True, slots=True)
class LiveFeedSettings:
    """What leaves this process beside the store."""

    redis_streams: RedisStreamsSettings = field(default_factory=RedisStreamsSettings)


@dataclass(frozen=True, slots=True)
class JobSettings:
    """When a job runs again."""

    interval_seconds: int

    def __post_init__(self) -> None:
        _positive(self, "interval_seconds")


@dataclass(frozen=True, slots=True)
class JobsSettings:
    """The jobs that repeat; the scan at the start runs once."""

    sync_whitelist: JobSettings = JobSettings(3600)
    enrich: JobSettings = JobSettings(21_600)
    rest_insurance_catchup: JobSettings = JobSettings(3600)


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """The scheduler."""

    jobs: JobsSettings = field(default_factory=JobsSettings)


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """How a long range is cut for fetching: at UTC midnights, so many days at most."""

    max_days_per_insert: int = 7
    chunk_align: str = "utc_day"

    def __post_init__(self) -> None:
        if not 1 <= self.max_days_per_insert <= 7:
            raise InvalidInput(
                f"max_days_per_insert must be 1 to 7, got {self.max_days_per_insert}"
            )
        _one_of(self, "chunk_align", ("utc_day",))


@dataclass(frozen=True, slots=True)
class MarketDataSettings:
    """All of `market_data.yaml`.

    Raises:
        InvalidInput: a market twice, or none; every section refuses its own values.
    """

    SECTIONS: ClassVar = ("market_data",)

    markets: tuple[MarketSettings, ...]
    ingestion: IngestionSettings
    live_feed: LiveFeedSettings = field(default_factory=LiveFeedSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    backfill: BackfillSettings = field(default_factory=BackfillSettings)

    def __post_init__(self) -> None:
        ids = [one.market_id for one in self.markets]
        if not ids:
            raise InvalidInput("markets must name at least one market")
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise InvalidInput(f"markets names market_id {', '.join(map(str, twice))} twice")

    @property
    def by_id(self) -> dict[int, MarketSettings]:
        """The markets by their id, ascending."""
        return {one.market_id: one for one in sorted(self.markets, key=lambda m: m.market_id)}

    def market(self, market_id: int) -> MarketSettings:
        """The settings of a market.

        Raises:
            InvalidInput: this installation does not work with it.
        """
        found = self.by_id.get(market_id)
        if found is None:
            raise InvalidInput(
                f"market {market_id} is not configured; configured are {_listed(self.by_id)}"
            )
        return found

    def as_of(self, now_ms: int) -> MarketDataSettings:
        """These settings, known to be possible at that time.

        Raises:
            InvalidInput: a market's history would begin in the future.
        """
        for one in self.markets:
            if one.rest.earliest_ms > now_ms:
                raise InvalidInput(
                    f"earliest_available_ts_utc of market {one.market_id} is in the future: "
                    f"{instant(one.rest.earliest_ms)}, it is {instant(now_ms)}"
                )
        return self
