"""What a command was given: a request file, candles of a file or the store, settings and flags."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compute.errors import GuardExceeded, InvalidInput, NoMarketData

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.cautions import Caution
    from compute.market.timeline import Timeline
    from compute.settings import Cpu, Limits

CONFIG = "backtest"
FLAGS = {
    "max_variants_per_compute": "--max-variants",
    "max_compute_bytes_total": "--memory-bytes",
}
"""What raises a guard for one command, by the guard's name."""
STORE = "the candle store"
"""The source of candles as a report names it."""


class NoStoredCandles(NoMarketData):
    """The candle store has none of what was asked for."""


@dataclass(frozen=True, slots=True)
class Market:
    """A timeline and doubts about the file of its candles.

    `store` names the store that they were read from; None is a file.
    """

    timeline: Timeline
    doubts: tuple[Caution, ...]
    store: str | None = None

    @property
    def kind(self) -> str:
        """The candles as one calls them."""
        where = "" if self.store is None else f" of the store at {self.store}"
        if self.timeline.generated:
            return f"SYNTHETIC candles{where}, made by a generator"
        return f"candles{where}"

    @property
    def source(self) -> str:
        """Where the candles were read, as a report names it."""
        return "a candle file" if self.store is None else STORE

    def cautions(self, job: Backtest) -> list[Caution]:
        """All that a reader of numbers made from these candles should know first."""
        from compute.cautions import cautions

        return [*self.doubts, *cautions(job, self.timeline)]


def read_request(path: Path) -> object:
    """The decoded JSON of a request file. Raises: InvalidInput that names the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file; check the path of the request") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from None
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{path}: not valid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: not valid JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a repeated key; plain JSON lets the last one win in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} comes twice in one object")
    return found


def effective(body: object, top_k: int | None = None) -> Backtest:
    """The back-test that a decoded request means under this environment's settings.

    Raises: InvalidInput, InvalidConfig.
    """
    from compute.backtest import resolve
    from compute.indicators.defaults import indicator_defaults
    from compute.request import parse_request
    from compute.settings import Defaults
    from configs.load import config

    if top_k is not None and isinstance(body, Mapping):
        body = {**body, "top_k": top_k}
    request = parse_request(body)
    defaults = config(CONFIG).settings(Defaults)
    indicators = config("indicators")
    return resolve(request, defaults, indicator_defaults(indicators.document, str(indicators.path)))


@contextmanager
def flags_named() -> Iterator[None]:
    """Inside, a guard that refuses says by which flag it is raised."""
    try:
        yield
    except GuardExceeded as error:
        raise error.with_flags(FLAGS) from None


def limits(max_variants: int | None, memory_bytes: int | None) -> Limits:
    """The guards: configured ones, overruled by flags. Raises: InvalidConfig."""
    from compute.settings import Limits
    from configs.load import config

    return config(CONFIG).settings(
        Limits,
        {
            "backtest.guards.max_variants_per_compute": max_variants,
            "backtest.guards.max_compute_bytes_total": memory_bytes,
        },
    )


def threads(wanted: int | None) -> int:
    """Cores to use: the flag, else the setting, else all that this process may use."""
    from compute.settings import Cpu
    from configs.load import config

    cpu: Cpu = config(CONFIG).settings(Cpu)
    return cpu.threads(wanted)


def device(wanted: str | None) -> str:
    """What shall search: the flag, else the setting."""
    from compute.settings import Search
    from configs.load import config

    search: Search = config(CONFIG).settings(Search)
    return wanted or search.device


def read_market(job: Backtest, path: Path | None, frame: str | None) -> Market:
    """The bars of `job` from a candle file, or from the candle store when there is none.

    Raises: InvalidCandles, NoMarketData, InvalidInput, StoreUnavailable.
    """
    if path is not None:
        return _file_market(job, path, frame)
    if frame is not None:
        raise InvalidInput(
            "--candles-timeframe says what a file holds; give --candles, or leave it out: "
            "the store holds 1m"
        )
    return _store_market(job)


def _file_market(job: Backtest, path: Path, frame: str | None) -> Market:
    from compute.cautions import taken_for
    from compute.market.timeline import covered, timeline
    from ingest.candle_files import read_candles

    file = read_candles(path, timeframe=frame, instrument=job.instrument)
    bars = timeline(
        file.candles, file.frame, job.instrument, job.timeframe, job.period, job.warmup_bars,
        generated=file.synthetic,
    )  # fmt: skip
    _refuse_no_bar(job, bars, covered(file.candles, file.frame))
    return Market(bars, tuple(taken_for(job.instrument, file.unnamed)))


def _store_market(job: Backtest) -> Market:
    """The bars of `job` from the store that the environment names; it is closed again before a
    cluster starts, for nothing after this needs it and an embedded one belongs to one process."""
    from compute.market.timeframe import TIMEFRAMES
    from compute.market.timeline import load_window, timeline
    from ingest.stores.locks import is_directory
    from ingest.stores.settings import ClickHouseSettings

    frame = TIMEFRAMES["1m"]
    settings = ClickHouseSettings.from_environment(os.environ)
    if settings.path is not None and not is_directory(settings.path, "the candle store"):
        raise _no_stored_candles(job, settings.place, None)
    from ingest.errors import StoreInUse
    from ingest.stores.candles import CandleStore
    from ingest.stores.ready import ready_store

    load = load_window(job.period, job.timeframe, job.warmup_bars, frame)
    try:
        opened = ready_store(settings, "roehub backtest")
    except StoreInUse as error:
        raise StoreInUse(
            f"`roehub submit REQUEST.json --follow` has a service that runs here compute this:"
            f" {error.message}"
        ) from None
    with opened as db:
        store = CandleStore(db)
        candles = store.candles(job.instrument, load)
        synthetic = store.synthetic(job.instrument, load) > 0
        inside = len(candles) and int(candles.ts_open_ms[-1]) + frame.ms > job.period.start_ms
        bounds = store.bounds(job.instrument)
    if not inside or bounds is None:
        raise _no_stored_candles(job, settings.place, bounds)
    bars = timeline(
        candles, frame, job.instrument, job.timeframe, job.period, job.warmup_bars,
        generated=synthetic,
    )  # fmt: skip
    _refuse_no_bar(job, bars, _covered(settings.place, bounds))
    return Market(bars, doubts=(), store=settings.place)


def _refuse_no_bar(job: Backtest, bars: Timeline, covered: str) -> None:
    if bars.start == bars.stop:
        raise InvalidInput(
            f"no bar of {job.timeframe.code} closes within time_range {job.period};"
            f" {covered}: lengthen time_range"
        )


def _no_stored_candles(
    job: Backtest, place: str, bounds: tuple[int, int] | None
) -> NoStoredCandles:
    """What fills the store, or where in it to look."""
    chosen = f"--market-id {job.instrument.market_id} --symbol {job.instrument.symbol}"
    if bounds is not None:
        return NoStoredCandles(
            f"no market data for requested range {job.period}; {_covered(place, bounds)}: "
            f"move the time range inside, or load more with `roehub ingest backfill-1m {chosen} "
            f"--parquet FILE`"
        )
    return NoStoredCandles(
        f"the candle store at {place} has no candle of {job.instrument}; load some with "
        f"`roehub ingest backfill-1m {chosen} --parquet FILE`, or give --candles FILE"
    )


def _covered(place: str, bounds: tuple[int, int]) -> str:
    from compute.market.period import instant

    first_ms, last_ms = bounds
    return (
        f"the store at {place} has candles of it in [{instant(first_ms)}, "
        f"{instant(last_ms + 60_000)}), not necessarily without gaps"
    )
