"""The `roehub` command: every package's commands under one roof, failures as exit codes.

0 done, 2 bad input (one message, no traceback), 1 failure, 130 stopped.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import api.jobs_cli
import api.listing
import api.live_cli
import api.login_cli
import api.secrets_cli
import api.service_cli
import api.tokens_cli
import api.up_cli
import cluster.cli
import cluster.jobs.cli
import cluster.postgres.cli
import ingest.cli
import live.cli

if TYPE_CHECKING:
    from compute.errors import RoehubError

ROOT = Path(__file__).resolve().parents[1]


class Commands(TyperGroup):
    """A group whose commands may raise the project's errors."""

    def invoke(self, ctx: Any) -> Any:
        wants = ctx.ensure_object(dict)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            name = f"roehub {ctx.invoked_subcommand}"
            left = wants.get("interrupted", "no result was written")
            typer.secho(f"{name}: interrupted; {left}", err=True)
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            status = exit_status(error)
            if status is None:
                raise
            tell(error, as_json=bool(wants.get("json")))
            raise typer.Exit(status) from None


def exit_status(error: Exception) -> int | None:
    """Exit status of an expected failure, None for a defect of ours."""
    from compute.errors import Cancelled, InvalidInput, RoehubError
    from configs.load import InvalidConfig

    if isinstance(error, Cancelled):
        return 130
    if isinstance(error, InvalidInput | InvalidConfig):
        return 2
    return 1 if isinstance(error, RoehubError | OSError | MemoryError) else None


def tell(error: Exception, *, as_json: bool) -> None:
    """What is wrong on stderr, and the error's envelope on stdout where JSON is expected there."""
    from compute.errors import RoehubError

    details: dict[str, Any] = {}
    code, message = "unexpected_error", str(error) or type(error).__name__
    lines = [message]
    if isinstance(error, RoehubError):
        code, message, details = error.code, error.message, error.details
        lines = described(error)
    elif exit_status(error) == 2:
        code = "validation_error"
    if as_json:
        envelope = {"error": {"code": code, "message": message, "details": details}}
        print(json.dumps(envelope))
    if exit_status(error) != 130:  # who asked for the stop has been told what was kept
        for line in lines:
            typer.secho(f"error: {line}", err=True, fg=typer.colors.RED)


def described(error: RoehubError) -> list[str]:
    """The whole refusal, a line for each fault: where it stands in the request, what is wrong."""
    faults = error.details.get("errors", ())
    if not faults:
        return [error.message]
    if len(faults) > 1 and all(fault["message"] == error.message for fault in faults):
        return [f"{', '.join(place(fault['path']) for fault in faults)}: {error.message}"]
    return [_line(fault["path"], fault["message"]) for fault in faults]


def _line(path: str, message: str) -> str:
    name = path.rpartition(".")[2]  # some messages begin with it, some with the end of the place
    head, colon, rest = message.partition(": ")
    said = rest if colon and path.endswith(f".{head}") else message.removeprefix(f"{name} ")
    return f"{place(path)}: {said}"


def place(path: str) -> str:
    """A path of the error list as one reads a request: `template.indicator_grids[0].params`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path.removeprefix("body."))


app = typer.Typer(
    name="roehub",
    cls=Commands,
    help="Finds trading-strategy parameters by brute force, honestly and fast.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from compute.results import ENGINE_VERSION

        print(f"roehub {ENGINE_VERSION}")
        raise typer.Exit


@app.callback()
def roehub(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_tell_version),
    ] = False,
) -> None:
    """What all commands share."""


app.command()(cluster.cli.backtest)
app.command()(cluster.cli.estimate)
app.command()(cluster.cli.demo)
app.command()(ingest.cli.synthetic)
app.command()(api.service_cli.api)
app.command()(api.up_cli.up)
app.command()(api.jobs_cli.submit)
app.command()(api.login_cli.login)
app.add_typer(ingest.cli.app, name="ingest")
app.add_typer(api.listing.app, name="indicators")
app.add_typer(api.tokens_cli.app, name="token")
app.add_typer(api.secrets_cli.app, name="secrets")
app.add_typer(cluster.postgres.cli.app, name="db")
app.add_typer(cluster.jobs.cli.app, name="jobs")
app.add_typer(live.cli.app, name="live")


@app.command()
def doctor(
    ray: Annotated[bool, typer.Option(help="Start Ray to see whether it works.")] = True,
) -> None:
    """Is this machine ready, and if not, what to do. Exit code 0 when the main job can run."""
    from api.doctor import examine

    if not examine(print, start_ray=ray):
        raise typer.Exit(1)


@app.command(
    add_help_option=False,  # the benchmark knows its options; a copy of them would fall behind
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(context: typer.Context) -> None:
    """The project's own measurements, on this machine; `roehub bench --help` lists them."""
    import subprocess

    if not (ROOT / "tests" / "benchmarks" / "__main__.py").is_file():
        typer.secho(
            f"error: the benchmarks are part of a checkout, {ROOT} is not one; "
            "clone the project and run `python3 -m tools.run bench` there",
            err=True,
            fg=typer.colors.RED,
        )
        raise typer.Exit(2)
    if {"--help", "-h"} & {*context.args}:
        print(
            f"roehub bench [ARGUMENTS] runs the benchmark in {ROOT}; files are named from there.\n",
            flush=True,
        )
    command = [sys.executable, "-m", "tests.benchmarks", *context.args]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


def main() -> None:
    """Runs the command line; SIGTERM is Ctrl-C from the first moment on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


if __name__ == "__main__":
    main()
