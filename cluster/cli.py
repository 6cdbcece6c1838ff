"""The commands that search: backtest, estimate, demo. What they need is imported when they run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cluster.session import Session


class ExecutorName(StrEnum):
    ray = "ray"
    local = "local"


class DeviceName(StrEnum):
    cpu = "cpu"
    cuda = "cuda"
    auto = "auto"


Request = Annotated[Path, typer.Argument(help="JSON file: what to try; see docs/api/files.md.")]
Candles = Annotated[
    Path | None,
    typer.Option(
        help="Parquet or CSV file of candles; default: the candle store.", show_default=False
    ),
]
CandlesTimeframe = Annotated[
    str | None, typer.Option(help="What the candle file holds, when it does not say so: 1m … 1d.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Cores to use; default: all.")]
MaxVariants = Annotated[int | None, typer.Option(min=1, help="Raise the guard of a stage.")]
MemoryBytes = Annotated[int | None, typer.Option(min=1, help="Raise the memory guard.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON to stdout, nothing else.")]
Executor = Annotated[ExecutorName, typer.Option(help="A Ray cluster, or threads of this process.")]
RayAddress = Annotated[
    str | None, typer.Option(help="HOST:PORT of a running cluster; default: one is started here.")
]

Device = Annotated[
    DeviceName | None,
    typer.Option(
        help="What searches; auto: a CUDA card where there is one. Default: the setting.",
        show_default=False,
    ),
]


def backtest(
    context: typer.Context,
    request: Request,
    candles: Candles = None,
    candles_timeframe: CandlesTimeframe = None,
    executor: Executor = ExecutorName.ray,
    ray_address: RayAddress = None,
    device: Device = None,
    threads: Threads = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Rows to keep.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for result.json, variants.parquet, report.html.")
    ] = None,
    as_json: AsJson = False,
    columns: Annotated[
        bool, typer.Option("--columns/--no-columns", help="Write variants.parquet.")
    ] = True,
    max_variants: MaxVariants = None,
    memory_bytes: MemoryBytes = None,
) -> None:
    """Back-test every combination of a request over a candle file, or over the candle store.

    Exit codes: 0 done, 2 bad input, 1 failure, 130 stopped by Ctrl-C or SIGTERM.
    """
    from cluster.inputs import flags_named, read_request
    from cluster.session import Options, search

    expects_json(context, as_json)
    with flags_named():
        session = search(
            read_request(request),
            candles,
            candles_timeframe,
            Options(
                executor=executor.value,  # type: ignore[arg-type]
                ray_address=ray_address,
                device=device and device.value,
                threads=threads,
                top_k=top_k,
                out=out,
                keep_columns=columns,
                max_variants=max_variants,
                memory_bytes=memory_bytes,
            ),
            speaker(as_json),
        )
    _show(session, as_json)


def estimate(
    context: typer.Context,
    request: Request,
    candles: Annotated[
        Path | None,
        typer.Option(help="Candle file; default: the candle store, else as many made-up bars."),
    ] = None,
    candles_timeframe: CandlesTimeframe = None,
    threads: Threads = None,
    as_json: AsJson = False,
    max_variants: MaxVariants = None,
    memory_bytes: MemoryBytes = None,
) -> None:
    """Work, memory and time of a request, without running it.

    Exit code 2 when a guard would refuse it.
    """
    from cluster.estimates import estimated, text
    from cluster.inputs import read_request

    expects_json(context, as_json)
    found = estimated(
        read_request(request), candles, candles_timeframe, threads, max_variants, memory_bytes
    )
    print(json.dumps(found.record(), allow_nan=False) if as_json else text(found))
    if found.refusal is not None:
        raise typer.Exit(2)


def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything the demo writes.")] = Path(
        "out/demo"
    ),
    executor: Executor = ExecutorName.ray,
    ray_address: RayAddress = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """The main job on made-up candles: a market, a grid over it, a ranked table, a report."""
    from cluster.demo import write_inputs
    from cluster.session import Options, search

    say = speaker(False)
    body, candles = write_inputs(out, say)
    options = Options(
        executor=executor.value,  # type: ignore[arg-type]
        ray_address=ray_address,
        device=device and device.value,
        threads=threads,
        out=out,
    )
    _show(search(body, candles, None, options, say), False)


def expects_json(context: typer.Context, as_json: bool) -> None:
    """Tells whoever reports a failure of this command that stdout is to be JSON."""
    context.ensure_object(dict)["json"] = as_json


def speaker(as_json: bool) -> Callable[[str], None]:
    """Prints a line to stdout, or to stderr where stdout belongs to JSON."""

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    return say


def _show(session: Session, as_json: bool) -> None:
    """The result on stdout: JSON, or the table and where the rest is."""
    result: dict[str, Any] = session.result
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    from cluster.ranked import print_ranked

    print_ranked(result, session.job)
    if session.files:
        print("written: " + ", ".join(str(path) for path in reversed(session.files)))
    else:
        print("nothing was written; --out DIR keeps the result, the grid and a report page")
