"""One back-test from its files to its files: what `backtest` and `demo` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cluster import inputs
from cluster.columns import MAX_ROWS
from cluster.executors import opened
from cluster.inputs import Market
from cluster.interrupts import INTERRUPTED, interruptible
from cluster.outputs import REPORT, RESULT, Outputs, outputs, report_html
from cluster.progress import progress, stage_name
from cluster.ranked import caution_lines
from compute.control import Control
from compute.errors import Cancelled, InvalidInput
from compute.market.period import instant
from compute.quantities import plural, spaced

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.executor import Executor
    from compute.pipeline import Outcome
    from compute.settings import Limits

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a request: where, how wide, within which guards, and what to leave behind."""

    executor: Literal["ray", "local"] = "ray"
    ray_address: str | None = None
    device: str | None = None
    threads: int | None = None
    top_k: int | None = None
    out: Path | None = None
    keep_columns: bool = True
    max_variants: int | None = None
    memory_bytes: int | None = None


@dataclass(slots=True)
class Session:
    """A back-test on its way: what it was asked for, what it found, what it wrote."""

    job: Backtest
    market: Market
    limits: Limits
    options: Options
    out: Outputs | None
    say: Say
    started: datetime
    seconds: dict[str, float]
    result: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def search(
    body: object, candles: Path | None, frame: str | None, options: Options, say: Say
) -> Session:
    """The finished `Session` of a request over a candle file, or over the candle store without
    one; `say` gets lines about its course.

    Everything that can be refused is refused before a cluster is started or a kernel runs.
    Raises: InvalidInput, InvalidConfig; Cancelled after having said what was kept.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    session = _prepared(body, candles, frame, options, say, started)
    session.seconds["inputs"] = time.perf_counter() - clock
    clock = time.perf_counter()
    control = Control()
    with executor(session) as pool, interruptible(control):
        session.seconds["executor"] = time.perf_counter() - clock
        try:
            outcome = _outcome(session, pool, control)
            _document(session, outcome, pool, control)
            if session.out is not None:
                _write(session, session.out, outcome, pool)
        except Cancelled as stopped:
            _keep(session, stage_name(stopped.stage))
            raise
        except KeyboardInterrupt:  # a second signal, wherever it came
            say(_cut_off(session))
            raise Cancelled(INTERRUPTED, "any") from None
    return session


def _prepared(
    body: object,
    candles: Path | None,
    frame: str | None,
    options: Options,
    say: Say,
    started: datetime,
) -> Session:
    """The session before anything is computed: request, guards, output directory, candles."""
    from compute.plan import check_variants, plan

    if options.executor == "local" and options.ray_address:
        raise InvalidInput("--ray-address joins a Ray cluster; leave out --executor local")
    job = inputs.effective(body, options.top_k)
    limits = inputs.limits(options.max_variants, options.memory_bytes)
    check_variants(job, limits)
    out = None if options.out is None else outputs(options.out)
    market = inputs.read_market(job, candles, frame)
    bars = market.timeline
    workers = inputs.threads(options.threads)
    columns = out is not None and options.keep_columns
    plan(
        job, len(bars.candles), bars.stop - bars.start, limits, workers=workers, columns=columns
    )  # fmt: skip
    if out is not None and columns:
        out.receive(job, bars)
    say(
        f"{job.instrument} {job.timeframe.code}, {instant(job.period.start_ms)} to "
        f"{instant(job.period.end_ms)}: {spaced(bars.stop - bars.start)} bars from "
        f"{spaced(bars.rows)} {market.kind}"
    )
    for line in caution_lines(caution.message for caution in market.cautions(job)):
        say(line)
    shortlist = f"the best {spaced(min(job.preselect, job.grid.total))} of them"
    stops = job.risk.total
    say(
        f"{spaced(job.grid.total)} base variants, "
        + (
            f"{shortlist} with {spaced(stops)} pairs of stop-loss and take-profit each"
            if stops > 1
            else f"{shortlist} scored exactly"
        )
    )
    return Session(job, market, limits, options, out, say, started, {})


@contextmanager
def executor(session: Session) -> Iterator[Executor]:
    """Threads of this process, a Ray cluster started for the occasion, or one that runs already."""
    options = session.options
    if options.executor == "ray":
        address = options.ray_address
        session.say(f"joining Ray at {address}" if address else "starting Ray on this machine")
    with opened(
        options.executor, options.ray_address, options.threads, options.device, session.say
    ) as pool:
        yield pool


def _outcome(session: Session, pool: Executor, control: Control) -> Outcome:
    from compute.jit import CACHE_DIR
    from compute.pipeline import backtest

    if next(CACHE_DIR.rglob("*.nbi"), None) is None:
        session.say("compiling the kernels, once for this version: some twenty seconds")
    sink = None if session.out is None else session.out.columns
    with progress() as report:
        return backtest(
            session.job, session.market.timeline, pool,
            limits=session.limits, control=control, report=report, sink=sink,
        )  # fmt: skip


def _document(session: Session, outcome: Outcome, pool: Executor, control: Control) -> None:
    """Fills the session's result."""
    from compute.results import result_document

    clock = time.perf_counter()
    result = result_document(
        outcome, pool, run={}, control=control, doubts=session.market.doubts
    )  # fmt: skip
    result["run"] = {
        "executor": pool.name,
        "device": pool.device,
        "threads": pool.workers,
        "estimated_memory_bytes": outcome.plan.total_bytes,
        "blocks": len(outcome.plan.boxes),
        "timings": {
            **session.seconds,
            **outcome.timings,
            "reports": time.perf_counter() - clock,
        },
        "peak_rss_bytes": _peak_rss_bytes(),
        "started_at": session.started.isoformat(timespec="seconds"),
    }
    session.result = result


def _peak_rss_bytes() -> int:
    """Most memory this process has held; `ru_maxrss` may count what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _write(session: Session, out: Outputs, outcome: Outcome, pool: Executor) -> None:
    """Writes columns, page and result; the result last, it vouches for the others."""
    from compute.results import result_text

    if session.options.keep_columns:
        written = out.write_columns(outcome)
        session.files.append(written.path)
        if written.rows < written.variants:
            session.say(
                f"{written.path.name} holds the best {spaced(written.rows)} of "
                f"{spaced(written.variants)} base variants; all of them are kept up to "
                f"{spaced(MAX_ROWS)}"
            )
    returns = None if out.columns is None else out.columns.returns()
    why = (
        f"The returns of all variants are kept for grids of up to {spaced(MAX_ROWS)}."
        if session.options.keep_columns
        else "The returns of the grid were not kept (--no-columns)."
    )
    page = report_html(
        outcome, session.result, pool,
        source=session.market.source, returns=returns, without_returns=why,
    )  # fmt: skip
    session.files.append(out.write(REPORT, page))
    session.files.append(out.write(RESULT, result_text(session.result)))


def _cut_off(session: Session) -> str:
    """What a run leaves that was ended at once: the files that it had finished."""
    if not session.files:
        return "interrupted at once; nothing was written, earlier files are untouched"
    finished = ", ".join(str(path) for path in session.files)
    return f"interrupted at once; finished were {finished}, other files are untouched"


def _keep(session: Session, stage: str) -> None:
    """Keeps what a run had finished that was stopped in `stage`, and says what that is."""
    out, say = session.out, session.say
    if out is None or out.columns is None or not out.columns.rows:
        say(f"interrupted in {stage}; nothing was written, earlier files are untouched")
        return
    written = out.keep_partial(out.columns)
    total = spaced(session.job.grid.total)
    say(
        f"interrupted in {stage}; Stage A had scored {spaced(written.rows)} of {total} base "
        f"variants, kept in {written.path}; earlier files are untouched"
    )
    names = session.job.grid.axis_names
    for flat, return_pct, trades in out.columns.best(3):
        values = (
            axis.values[digit]
            for axis, digit in zip(session.job.grid.axes, _digits(session, flat), strict=True)
        )
        chosen = ", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True))
        say(f"  best so far (no stops): {return_pct:.2f} %, {plural(trades, 'trade')}, {chosen}")


def _digits(session: Session, flat: int) -> list[int]:
    import numpy as np

    return session.job.grid.digits(np.array([flat]))[0].tolist()
