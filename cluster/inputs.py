"""What a command was given: a request file, a candle file, settings and flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compute.errors import InvalidInput

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.cautions import Caution
    from compute.market.timeline import Timeline
    from compute.settings import Cpu, Limits

CONFIG = "backtest"


@dataclass(frozen=True, slots=True)
class Market:
    """A timeline, whether its candles say that a generator made them, doubts about their file."""

    timeline: Timeline
    synthetic: bool
    doubts: tuple[Caution, ...]

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


def read_market(job: Backtest, path: Path, frame: str | None) -> Market:
    """The bars of `job` from a candle file. Raises: InvalidCandles, NoMarketData, InvalidInput."""
    from compute.cautions import taken_for
    from compute.market.timeline import covered, timeline
    from ingest.candle_files import read_candles

    file = read_candles(path, timeframe=frame, instrument=job.instrument)
    bars = timeline(
        file.candles, file.frame, job.instrument, job.timeframe, job.period, job.warmup_bars
    )
    if bars.start == bars.stop:
        raise InvalidInput(
            f"no bar of {job.timeframe.code} closes within time_range {job.period};"
            f" {covered(file.candles, file.frame)}: lengthen time_range"
        )
    return Market(bars, file.synthetic, tuple(taken_for(job.instrument, file.unnamed)))
