"""`roehub indicators`: what there is to search over."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Listing(TyperGroup):
    """A group that lists where no command of it is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args[:1] and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named else ["list", *args])


app = typer.Typer(
    cls=Listing, help="What there is to search over: `roehub indicators [TEXT] [--json]`."
)


@app.command("list")
def listed(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="Part of an id, a title or an output.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The definitions as JSON.")] = False,
) -> None:
    """All indicators, or those that have a text in their id, title or outputs (the default)."""
    from compute.cli import indicators, matching, records

    context.ensure_object(dict)["json"] = as_json
    found = matching(text)
    print(json.dumps(records(found)) if as_json else indicators(found, _width()))


@app.command()
def show(
    indicator_id: Annotated[str, typer.Argument(help="For example momentum.rsi.")],
) -> None:
    """Bounds, defaults, outputs and voting rule of one indicator."""
    from compute.cli import indicator
    from compute.indicators.defaults import indicator_defaults
    from configs.load import config

    file = config("indicators")
    known = indicator_defaults(file.document, str(file.path))
    print(indicator(indicator_id, known.get(indicator_id.strip().lower()), _width()))


def _width() -> int | None:
    """Columns of the terminal; None for a pipe, where nothing is folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
