"""Options that several commands share, and what is made of their texts."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from compute.market.instrument import Instrument
    from compute.market.period import Period
    from ingest.settings import MarketDataSettings
    from ingest.stores.clickhouse import ClickHouse


class ReportFormat(StrEnum):
    text = "text"
    json = "json"


MarketId = Annotated[
    int | None, typer.Option(min=1, help="1 to 4, see docs/api/files.md.", show_default=False)
]
Symbol = Annotated[str | None, typer.Option(help="For example BTCUSDT.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option(
        help="market_data.yaml; default: the environment's (ROEHUB_ENV).",
        envvar="MARKET_DATA_CONFIG_PATH",
        show_default=False,
        show_envvar=False,
    ),
]
Whitelist = Annotated[
    Path | None,
    typer.Option(
        help="whitelist.csv; default: the environment's (ROEHUB_ENV).",
        envvar="MARKET_DATA_WHITELIST_PATH",
        show_default=False,
        show_envvar=False,
    ),
]
Format = Annotated[ReportFormat, typer.Option("--report-format", help="What stdout gets.")]
Start = Annotated[
    str | None, typer.Option(help="First minute, like 2024-01-01T00:00:00Z.", show_default=False)
]
End = Annotated[
    str | None, typer.Option(help="End, exclusive; a time without a zone is refused.",
                             show_default=False),
]  # fmt: skip


STAYS = "what was stored stays, and running it again does the rest"


def expects_json(context: typer.Context, chosen: ReportFormat, left: str = STAYS) -> bool:
    """Whether stdout is to be JSON; tells whoever reports the end of the command, and what is
    `left` by a stopped one."""
    told = context.ensure_object(dict)
    told["json"] = chosen is ReportFormat.json
    told["interrupted"] = left
    return chosen is ReportFormat.json


def say(line: str) -> None:
    """A line to stderr: stdout belongs to the report."""
    typer.echo(line, err=True)


def clock_ms() -> int:
    """UTC milliseconds now."""
    return time.time_ns() // 1_000_000


def chosen_instrument(market_id: int | None, symbol: str | None) -> Instrument:
    """The instrument that both flags name.

    Raises:
        InvalidInput: one is missing, no exchange has the market, or none writes a symbol so.
    """
    from compute.errors import InvalidInput
    from ingest.exchanges.registry import market
    from ingest.symbols import listed_instrument

    missing = [
        name for name, value in (("--market-id", market_id), ("--symbol", symbol)) if value is None
    ]
    if market_id is None or symbol is None:
        raise InvalidInput(f"{' and '.join(missing)} missing; name one instrument")
    return listed_instrument(market(market_id).market_id, symbol)


def moment_ms(name: str, text: str | None) -> int | None:
    """UTC milliseconds of a flag's time, None when it was not given.

    Raises:
        InvalidInput: no time, or one without a zone.
    """
    if text is None:
        return None
    from datetime import datetime

    from compute.errors import InvalidInput
    from compute.market.period import epoch_ms

    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(
            f"{name} {text!r} is not ISO 8601; write it like 2026-01-01T00:00:00Z"
        ) from None
    if moment.utcoffset() is None:
        raise InvalidInput(f"{name} {text} has no time zone; add Z or an offset like +02:00")
    return epoch_ms(moment)


def chosen_period(start: str | None, end: str | None) -> Period | None:
    """The range that --start and --end name, None without either; one alone leaves the other open.

    Raises:
        InvalidInput: no times, times without a zone, an empty range, or one that is to come.
    """
    from compute.errors import InvalidInput
    from compute.market.period import Period

    start_ms, end_ms = moment_ms("--start", start), moment_ms("--end", end)
    if start_ms is None and end_ms is None:
        return None
    now_ms = clock_ms()
    if end_ms is None and start_ms is not None and start_ms >= now_ms:
        raise InvalidInput(f"--start {start} lies in the future; give an earlier one")
    return Period(0 if start_ms is None else start_ms, now_ms if end_ms is None else end_ms)


def rows_of(batch_size: str) -> int | None:
    """Rows of an insert, None for no limit.

    Raises:
        InvalidInput: neither a positive whole number, nor `none`, nor blank.
    """
    from compute.errors import InvalidInput

    text = batch_size.strip().lower()
    if text in ("", "none"):
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidInput(f"--batch-size must be a whole number > 0 or none, got {batch_size!r}")
    return int(text)


def market_data(path: Path | None) -> MarketDataSettings:
    """The settings of market data. Raises: InvalidConfig, InvalidInput."""
    from configs.load import config
    from ingest.settings import MarketDataSettings

    return config("market_data", path=path).settings(MarketDataSettings).as_of(clock_ms())


def whitelist_path(path: Path | None) -> Path:
    """The whitelist that was named, else the environment's. Raises: InvalidConfig."""
    from configs.load import environment_file

    return environment_file("whitelist.csv") if path is None else path


def read_whitelist(path: Path | None) -> Path:
    """The same, once it was read: a service is not started with one that cannot be.

    Raises: InvalidConfig, InvalidInput.
    """
    from ingest.whitelist import whitelist

    found = whitelist_path(path)
    whitelist(found, lambda line: None)  # what it warns of is said when it is synchronised
    return found


def store(owner: str) -> ClickHouse:
    """The opened candle store that the environment names; a context manager.

    Raises: StoreInUse, StoreUnavailable, SchemaOutdated, InvalidInput.
    """
    from ingest.stores.ready import ready_store
    from ingest.stores.settings import ClickHouseSettings

    return ready_store(ClickHouseSettings.from_environment(os.environ), owner)


class LogFormat(StrEnum):
    text = "text"
    json = "json"


Logs = Annotated[LogFormat, typer.Option("--log-format", help="Lines on stderr.")]


def logs_to_stderr(chosen: LogFormat) -> None:
    """Sends the log to stderr, a line a record."""
    import json
    import logging

    class Json(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            line = {
                "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}Z",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
            if record.exc_info:
                line["traceback"] = self.formatException(record.exc_info)
            return json.dumps(line)

    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    formatter = Json() if chosen is LogFormat.json else plain
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "alembic"):  # a line a request, a dozen a start
        logging.getLogger(chatty).setLevel(logging.WARNING)
