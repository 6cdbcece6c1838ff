"""What there is to search over: the indicators, as texts for a terminal.

Plain functions: the core knows no command-line package; the `roehub` command mounts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def indicators() -> str:
    """One line for each indicator: id, parameters, voting rule, title."""
    from compute.indicators.registry import definition, ids

    rows = [("indicator", "parameters", "rule", "title")]
    for indicator_id in ids():
        known = definition(indicator_id)
        rule = known.output().rule
        rows.append(
            (
                indicator_id,
                ", ".join(known.axes) or "–",
                rule.family if rule else "none",
                known.title,
            )
        )
    return "\n".join([*aligned(rows), "", "More: roehub indicators show ID"])


def indicator(indicator_id: str, defaults: Any = None) -> str:
    """Everything about one indicator: bounds, defaults, outputs, voting rules.

    `defaults` are the deployment's axes for it. Raises: InvalidGrid for an unknown id.
    """
    from compute.indicators.definition import FAMILY_MEANINGS
    from compute.indicators.registry import definition

    known = definition(indicator_id)
    lines = [
        f"{known.indicator_id}  {known.title}",
        f"  {known.formula}",
        f"  {known.reference}",
        "",
    ]
    if known.sources:
        lines.append(f"  source   {' '.join(known.sources)}{_default(defaults, 'source')}")
    else:
        lines.append(f"  reads    {' '.join(known.inputs)}")
    rows: list[Sequence[str]] = [("parameter", "kind", "from", "to", "step", "value", "axis")]
    for param in known.params:
        rows.append(
            (
                param.name, param.kind, f"{param.hard_min}", f"{param.hard_max}",
                f"{param.step}", f"{param.default}", _axis(defaults, "params", param.name),
            )
        )  # fmt: skip
    if known.params:
        lines += ["", *("  " + line for line in aligned(rows))]
    for output in known.outputs:
        primary = " (primary)" if output.name == known.primary else ""
        lines += ["", f"  output {output.name}{primary}"]
        if output.rule is None:
            lines.append("    has no rule, it cannot vote")
            continue
        rule = output.rule
        price = f" of {rule.price}" if rule.family.startswith("compare") else ""
        turned = ", LONG and SHORT swapped" if rule.inverted else ""
        lines.append(f"    rule {rule.family}{price}{turned}")
        lines.append(f"      {FAMILY_MEANINGS[rule.family]}")
        for param in rule.params:
            own = _axis(defaults, "signals", param.name) if primary else ""
            lines.append(f"    {param.name} ({param.kind})  {own or _proposed(param.proposed)}")
    if defaults is not None:
        lines += ["", "  axis: what a request that leaves the parameter out gets here"]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with their columns under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]


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
