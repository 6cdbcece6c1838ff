"""The bars of a job as an Arrow file, so that a runner needs no candle store.

    candles/<fingerprint>-<timeframe>.arrow

The fingerprint names the candles that the bars were made of; with the timeframe it decides every
bar of the load window. A digest over the content is in the file and checked when it is read.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from cluster.jobs.durable import write_all
from compute.backtest import Backtest
from compute.errors import RoehubError
from compute.market.candles import SERIES, Candles
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline

_HEADER: Final = b"roehub.market"
_DIGEST: Final = b"roehub.digest"


class MarketFileLost(RoehubError):
    """The bars of a job are gone, or are not those that it was created with."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the candles of the job cannot be read: {path}: {reason}; submit the request again",
            details={"error": "market_file_lost", "path": str(path), "reason": reason},
        )


def market_path(results_dir: Path, fingerprint: str, timeframe: str) -> Path:
    """Where the bars made of the candles with a fingerprint are."""
    return results_dir / "candles" / f"{fingerprint}-{timeframe}.arrow"


def write_market(results_dir: Path, timeline: Timeline) -> Path:
    """The file of the timeline's bars; one that is there already is looked at and kept.

    The fingerprint does not cover the label of made-up candles: the newest label counts.

    Raises: ResultsUnwritable.
    """
    path = market_path(results_dir, timeline.fingerprint, timeline.timeframe.code)
    try:
        head, _ = _read(path)
        if head.get("generated") != timeline.generated:
            raise MarketFileLost(path, "its candles have another label")
        os.utime(path)  # as young as the job that is about to refer to it
    except (MarketFileLost, OSError):
        write_all({path: _content(timeline)})
    return path


def read_market(results_dir: Path, job: Backtest, fingerprint: str) -> Timeline:
    """The timeline of `job` over the candles with a fingerprint. Raises: MarketFileLost."""
    path = market_path(results_dir, fingerprint, job.timeframe.code)
    head, candles = _read(path)
    told = (head["fingerprint"], head["instrument"], head["timeframe"])
    if told != (fingerprint, str(job.instrument), job.timeframe.code):
        raise MarketFileLost(path, f"it holds {told[1]} {told[2]} of candles {told[0]}")
    bounds = np.array([job.period.start_ms, job.period.end_ms]) - job.timeframe.ms
    start, stop = (int(i) for i in np.searchsorted(candles.ts_open_ms, bounds, side="left"))
    return Timeline(
        instrument=job.instrument,
        timeframe=job.timeframe,
        period=job.period,
        warmup_bars=job.warmup_bars,
        candles=candles,
        start=start,
        stop=stop,
        frame=TIMEFRAMES[head["frame"]],
        load=Period(*head["load"]),
        rows=head["rows"],
        missing=head["missing"],
        synthetic=head["synthetic"],
        first_ms=head["first_ms"],
        last_ms=head["last_ms"],
        fingerprint=fingerprint,
        generated=head.get("generated", False),
    )


def made_up(results_dir: Path, fingerprint: str, timeframe: str) -> bool:
    """Whether a generator made candles of the bars; reads no bar. Raises: MarketFileLost."""
    import pyarrow as pa

    path = market_path(results_dir, fingerprint, timeframe)
    try:
        with pa.memory_map(str(path)) as file:
            head = pa.ipc.open_file(file).schema.metadata[_HEADER]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise MarketFileLost(path, str(error)) from None
    return json.loads(head).get("generated", False)


def _content(timeline: Timeline) -> bytes:
    import pyarrow as pa

    head = json.dumps(
        {
            "fingerprint": timeline.fingerprint,
            "instrument": str(timeline.instrument),
            "timeframe": timeline.timeframe.code,
            "frame": timeline.frame.code,
            "load": [timeline.load.start_ms, timeline.load.end_ms],
            "rows": timeline.rows,
            "missing": timeline.missing,
            "synthetic": timeline.synthetic,
            "first_ms": timeline.first_ms,
            "last_ms": timeline.last_ms,
            "generated": timeline.generated,
        }
    ).encode()
    candles = timeline.candles
    columns = {"ts_open_ms": candles.ts_open_ms, **{n: getattr(candles, n) for n in SERIES}}
    metadata = {_HEADER: head, _DIGEST: _digest(head, candles).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue().to_pybytes()


def _read(path: Path) -> tuple[dict[str, Any], Candles]:
    """(head, bars) of a file. Raises: MarketFileLost."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        head = (table.schema.metadata or {})[_HEADER]
        candles = Candles(*(table.column(name).to_numpy() for name in ("ts_open_ms", *SERIES)))
        known = table.schema.metadata[_DIGEST].decode() == _digest(head, candles)
    except OSError as error:
        raise MarketFileLost(path, error.strerror or str(error)) from None
    except (pa.ArrowException, KeyError, ValueError, RoehubError) as error:
        raise MarketFileLost(path, f"it is torn: {error}") from None
    if not known:
        raise MarketFileLost(path, "its content was changed")
    return json.loads(head), candles


def _digest(head: bytes, candles: Candles) -> str:
    digest = sha256(head)
    for column in (candles.ts_open_ms, *candles.series()):
        digest.update(column.data)
    return digest.hexdigest()
