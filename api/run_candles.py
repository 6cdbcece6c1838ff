"""How far behind a run is, and why no candle comes to it."""

from __future__ import annotations

from typing import Final

from api.context import AppContext
from api.errors import StorageFailed
from compute.market.instrument import Instrument
from compute.market.period import epoch_ms, instant
from ingest.rows import MINUTE_MS
from ingest.sample import INSTRUMENT as SAMPLE
from live.strategies.runs import Run
from live.strategies.store import Strategy

PATIENCE_S: Final = 60.0
"""How long a run may be without a first minute."""
SILENCE_S: Final = 180.0
"""How old its last minute may be."""
OLD_MS: Final = 10 * MINUTE_MS
"""How old the newest candle that is stored may be: longer than any is on its way."""
_ELSEWHERE: Final = (
    "`roehub ingest live --schedule` brings them where it runs: those of its whitelist."
    " `roehub ingest coverage` says what is stored."
)
_NOBODY: Final = (
    "Nobody fetches candles here. End `roehub up` with Ctrl-C and start it as"
    " `roehub up --ingest --live`: it fetches and follows the instruments of its whitelist."
)


def lag_seconds(run: Run, now_ms: int) -> float | None:
    """From the close of the last minute that a run processed to now; None where it is idle."""
    if not run.active or run.checkpoint_ts_open is None:
        return None
    seen_ms = epoch_ms(run.checkpoint_ts_open) + MINUTE_MS
    return max(0.0, (now_ms - max(seen_ms, epoch_ms(run.started_at))) / 1000)


def is_quiet(run: Run, now_ms: int) -> bool:
    """Whether a run that goes on should have had a minute by now, or another one."""
    if not run.active or run.state == "stopping":
        return False
    lag = lag_seconds(run, now_ms)
    if lag is None:
        return now_ms - epoch_ms(run.started_at) > 1000 * PATIENCE_S
    return lag > SILENCE_S


def is_made_up(strategy: Strategy) -> bool:
    """Whether a strategy trades the sample, of which no new candle ever comes."""
    return _instrument(strategy) == SAMPLE


async def waits_for(context: AppContext, strategy: Strategy) -> str | None:
    """Why no candle comes to a run of a strategy, with what to do: sentences.

    None where candles come, and where that is not known: without a store, or one that is away. One
    query of the store, so ask for what waits or is about to start.
    """
    if is_made_up(strategy):
        return (
            f"{SAMPLE.symbol} is a made-up market that does not go on by itself: no new candle of"
            " it comes, so a run waits for ever. Clone the strategy onto an instrument that is"
            " followed, and run that."
        )
    market, instrument = context.market, _instrument(strategy)
    if market is None:
        return None
    try:
        bounds = await market.read(lambda: market.bounds(instrument))
    except StorageFailed:
        return None
    name = strategy.spec_json["instrument_key"]
    source = _source(context, instrument, name)
    if bounds is None:
        return f"No candles of {name} are stored. {source} A run that sees none in an hour fails."
    close_ms = bounds[1] + MINUTE_MS
    if context.now_ms() - close_ms <= OLD_MS:
        return None
    return (
        f"The newest candle of {name} is of {instant(bounds[1])}: none has come since."
        f" {source} A run goes on by itself when candles come."
    )


def _source(context: AppContext, instrument: Instrument, name: str) -> str:
    """Where candles of an instrument come from, and what keeps them away: sentences."""
    if context.ingestion is None:
        return _NOBODY if context.candle_source == "nobody" else _ELSEWHERE
    worker = context.ingestion.worker
    if worker is None or worker.is_unread:
        return "This service fetches candles by itself; that is about to begin."
    if not worker.follows(instrument):
        return (
            f"This service follows the instruments of its whitelist, and {name} is not among them:"
            " add a line for it to that file, which is read again once an hour."
        )
    reason = worker.unreached(instrument)
    if reason is None:
        return "This service follows it; candles come by themselves."
    return f"This service follows it, but no stream comes now: {reason}."


def _instrument(strategy: Strategy) -> Instrument:
    return Instrument(**strategy.spec_json["instrument_id"])
