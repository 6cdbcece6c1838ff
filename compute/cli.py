"""What there is to search over: the indicators, as texts for a terminal.

Plain functions: the core knows no command-line package; the `roehub` command mounts them. `width`
is that of the terminal; None folds nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from compute.indicators.definition import Definition

_LEAST: Final = 16  # columns a folded text gets, however narrow the terminal is
_INTERNAL: Final = ("lead", "slow")


def matching(text: str = "") -> list[Definition]:
    """Definitions with `text` in their id, title or the name of an output, sorted by id.

    Raises: InvalidInput where there is none.
    """
    from compute.errors import InvalidInput
    from compute.indicators.registry import definition, ids, nearest

    wanted = text.strip().lower()
    found = []
    for known in map(definition, ids()):
        names = (known.indicator_id, known.title.lower(), *(item.name for item in known.outputs))
        if any(wanted in name for name in names):
            found.append(known)
    if not found:
        near = nearest(wanted)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "`roehub indicators` lists them all"
        )
        raise InvalidInput(f"no indicator has {text!r} in its id, title or outputs; {hint}")
    return found


def indicators(found: Sequence[Definition], width: int | None = None) -> str:
    """One line for each indicator: id, parameters where there is room, voting rule, title."""
    rows = [("indicator", "parameters", "rule", "title")]
    for known in found:
        rule = known.output().rule
        axes = ", ".join(known.axes) or "–"
        rows.append((known.indicator_id, axes, rule.family if rule else "none", known.title))
    if width is not None and width < max(map(len, aligned(rows))):
        rows = [(row[0], *row[2:]) for row in rows]
    return "\n".join([*aligned(rows, width), "", "More: roehub indicators show ID"])


def records(found: Sequence[Definition]) -> list[dict[str, Any]]:
    """The definitions as JSON-able data, each output with its `meaning`."""
    return [
        {name: value for name, value in asdict(known).items() if name not in _INTERNAL}
        | {"outputs": [asdict(item) | {"meaning": item.meaning} for item in known.outputs]}
        for known in found
    ]


def indicator(indicator_id: str, defaults: Any = None, width: int | None = None) -> str:
    """Everything about one indicator: bounds, defaults, outputs, voting rules.

    `defaults` are the deployment's axes for it. Raises: InvalidGrid for an unknown id.
    """
    from compute.indicators.registry import definition

    known = definition(indicator_id)
    lines = [
        f"{known.indicator_id}  {known.title}",
        f"  {known.formula}",
        f"  {known.reference}",
        "",
        *_reads(known, defaults),
    ]
    rows: list[Sequence[str]] = [("parameter", "kind", "from", "to", "step", "default", "axis")]
    for param in known.params:
        rows.append(
            (
                param.name, param.kind, f"{param.hard_min}", f"{param.hard_max}",
                f"{param.step}", f"{param.default}", _axis(defaults, "params", param.name),
            )
        )  # fmt: skip
    if known.params:
        table = aligned(rows, None if width is None else width - 2)
        lines += ["", *("  " + line for line in table)]
    for output in known.outputs:
        primary = " (primary)" if output.name == known.primary else ""
        lines += ["", f"  output {output.name}{primary}"]
        rule = output.rule
        if rule is not None:
            price = f" of {rule.price}" if rule.family.startswith("compare") else ""
            turned = ", inverted" if rule.inverted else ""
            lines.append(f"    rule {rule.family}{price}{turned}")
        lines.append(f"      {output.meaning}")
        for param in rule.params if rule else ():
            own = _axis(defaults, "signals", param.name) if primary else ""
            lines.append(f"    {param.name} ({param.kind})  {own or _proposed(param.proposed)}")
    lines.append("")
    if known.voter:
        lines.append(f"  {known.voter} votes on the same values")
    if defaults is not None:
        lines.append("  axis: what a request that leaves the parameter out gets here")
    return "\n".join(_folded(lines, width)).rstrip()


def _reads(known: Definition, defaults: Any) -> list[str]:
    """What it reads, in which order its axes run, where its values begin."""
    from compute.indicators.registry import module
    from compute.quantities import plural

    indicator = module(known.indicator_id)
    bars = {item.name: indicator.first(known.defaults, item.name) for item in known.outputs}
    first = f"bar {min(bars.values())}"
    if len({*bars.values()}) > 1:
        first = ", ".join(f"{name} bar {bar}" for name, bar in bars.items())
    settled = f"settled after {plural(indicator.settle(known.defaults), 'bar')}"
    settled += " at the defaults" if known.params else ""
    settled += "; depends on all bars before it" if known.recursive else ""
    lines = [f"  reads    {' '.join(known.inputs)}"] if known.inputs else []
    if known.sources:
        lines.append(f"  source   {' '.join(known.sources)}{_default(defaults, 'source')}")
    order = ", ".join(known.axes) + (": the last one varies fastest" if known.axes[1:] else "")
    return [
        *lines,
        f"  axes     {order or 'none, there is a single variant'}",
        f"  values   from {first}, {settled}",
        *(f"  only     combinations with {low} ≤ {high}" for low, high in known.ordered),
    ]


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows as lines with their columns under each other, the last column folded to `width`."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = sum(widths[:-1]) + 2 * (len(widths) - 1)
    lines: list[str] = []
    for row in rows:
        room = widths[-1] if width is None else max(_LEAST, width - left)
        first, *more = textwrap.wrap(row[-1], max(1, room), break_on_hyphens=False) or [""]
        head = [cell.ljust(size) for cell, size in zip(row, widths[:-1], strict=False)]
        lines.append("  ".join([*head, first]).rstrip())
        lines += [" " * left + part for part in more]
    return lines


def _folded(lines: Sequence[str], width: int | None) -> list[str]:
    """Lines folded to `width`, what is left of one indented under it."""
    if width is None:
        return [*lines]
    folded: list[str] = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        folded += textwrap.wrap(
            line, max(2 * _LEAST, width), subsequent_indent=indent, break_on_hyphens=False
        ) or [""]
    return folded


def _default(defaults: Any, name: str) -> str:
    spec = getattr(defaults, name, None)
    return f"  (axis {_spec(spec)})" if spec is not None else ""


def _axis(defaults: Any, group: str, name: str) -> str:
    spec = getattr(defaults, group, {}).get(name) if defaults is not None else None
    return _spec(spec) if spec is not None else ""


def _spec(spec: Any) -> str:
    if hasattr(spec, "values"):
        return " ".join(str(value) for value in spec.values)
    return f"{spec.start} to {spec.stop_incl} by {spec.step}"


def _proposed(proposed: Any) -> str:
    return f"proposed: {_spec(proposed)}"
