"""The page of all indicators as Markdown, written from their definitions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from compute.indicators.definition import (
    FAMILY_MEANINGS,
    GROUPS,
    SOURCE,
    Definition,
    Indicator,
    Listed,
    Output,
    Param,
    RuleParam,
)
from tools.docs.conformance import conformance_line
from tools.docs.indicator_example import SHOWN_BARS, Example
from tools.docs.indicator_picture import description

GROUP_TITLES: Final = {
    "ma": "Moving averages",
    "volatility": "Volatility",
    "momentum": "Momentum",
    "trend": "Trend",
    "volume": "Volume",
    "structure": "Structure",
}
VOTES: Final = "how-an-output-votes"
INTRO: Final = f"""# Indicators

Every indicator: what it computes, what it may be given, how it votes, and what that looks like.

This page and its pictures are generated from `compute/indicators/`; `make docs` renews them. The
same facts in a terminal: `roehub indicators show ID`.

## How to read an entry

- **The formula** stands under the picture. `o h l c v` are open, high, low, close and volume of a
  bar, `x` is the chosen source, `w` the window; a digit counts bars back (`c1` is the previous
  close). `hl2`, `hlc3` and `ohlc4` are means of the prices named.
- **Parameters.** A request may use any value between *from* and *to*. Only a range is held to the
  grid of *step*: its step is a multiple of that one, its values are *from* plus a multiple.
  *Default* is what the picture shows. What a request that leaves a parameter out gets is set by
  [the deployment](../configs/prod/indicators.yaml).
- **Axes** are the dimensions of the grid, in the order that numbers variants; the last one varies
  fastest.
- **First value** is the number of the first bar, counted from 0, at which an output can be
  finite. **Settled** is the number of bars of history after which the value no longer depends on
  where loading began: windows are full, and the starting value of an exponential average weighs
  0.1 % at most. A back-test loads that many bars before its period by itself
  ([warm-up](decisions/warmup-follows-the-indicators.md)).
- **Outputs.** The primary one votes unless a request asks for
  [another](decisions/indicator-outputs.md). *Proposed* are values worth searching for the
  parameters of its rule.
- **The picture** shows {SHOWN_BARS} made-up hourly candles, the same in every picture (hollow:
  rising), all outputs at their defaults, and behind them where the primary output votes LONG
  (green, upper blocks) and SHORT (red, lower blocks). Where its rule takes parameters, the middle
  of the proposed values is used; dashed lines are the levels that decide. Bars at the foot of a
  price panel are volume.
- **TA-Lib** names the function of that library to compare with, and how near the values are.

## How an output votes

On every bar an output says LONG, SHORT or nothing (NEUTRAL), by one of these rules. A bar where
both sides hold, or where a value is missing, is NEUTRAL. Several indicators in one request must
agree.

| rule | meaning |
|---|---|
{{rules}}

*Source* in a comparison is the selected price, otherwise the price is the close. What an inverted
rule does is written beside it.
"""


def page(indicators: Sequence[Indicator], examples: Sequence[Example]) -> str:
    """The whole page; `examples` belong to `indicators` one by one."""
    rules = "\n".join(f"| `{name}` | {plain(text)} |" for name, text in FAMILY_MEANINGS.items())
    pairs = list(zip(indicators, examples, strict=True))
    parts = [INTRO.format(rules=rules), "## Contents\n"]
    for group in GROUPS:
        inside = [known for known, _ in pairs if known.DEFINITION.group == group]
        parts.append(_contents(group, [known.DEFINITION for known in inside]))
    for group in GROUPS:
        parts.append(f"## {GROUP_TITLES[group]} (`{group}`)\n")
        parts += [
            section(known, shown) for known, shown in pairs if known.DEFINITION.group == group
        ]
    return "\n".join(parts).rstrip("\n") + "\n"


def section(indicator: Indicator, shown: Example) -> str:
    """One indicator's part of the page."""
    known = indicator.DEFINITION
    params = known.defaults
    first = [(output.name, indicator.first(params, output.name)) for output in known.outputs]
    lines = [
        f"### {known.indicator_id}\n",
        f"**{plain(known.title)}**\n",
        f"![{plain(description(shown))}](indicators/{known.indicator_id}.svg)\n",
        f"{plain(known.formula)}\n",
        f"- **Reference:** {plain(known.reference)}",
        f"- **Reads:** {_reads(known)}",
        f"- **Axes:** {_codes(known.axes) or 'none, there is a single variant'}",
        f"- **First value:** {_first(first)}; **settled** after {indicator.settle(params)} bars"
        f"{' at the defaults' if known.params else ''}"
        f"{'; depends on all bars before it' if known.recursive else ''}",
    ]
    if known.ordered:
        pairs = ", ".join(f"`{low}` ≤ `{high}`" for low, high in known.ordered)
        lines.append(f"- **Only combinations with** {pairs}")
    lines.append(f"- {conformance_line(known.indicator_id).replace('TA-Lib', '**TA-Lib**', 1)}")
    if known.params:
        lines += ["", "| parameter | from | to | step | default |", "|---|--:|--:|--:|--:|"]
        lines += [_param_row(param) for param in known.params]
    lines += ["", "| output | rule | its parameters, proposed |", "|---|---|---|"]
    lines += [_output_row(known, output) for output in known.outputs]
    return "\n".join(lines) + "\n"


def rule_text(output: Output) -> str:
    """How an output votes, with what the name of the family leaves open."""
    rule = output.rule
    if rule is None:
        return "cannot vote"
    extra = ""
    if rule.family == "compare_price_to_output" and rule.price == "source":
        extra = ", source"
    if rule.inverted:
        extra += f", inverted: {plain(output.meaning)}"
    if rule.long_output:
        extra += f", LONG read from `{rule.long_output}`, SHORT from `{output.name}`"
    return f"[`{rule.family}`](#{VOTES}){extra}"


def plain(text: str) -> str:
    """Text whose characters Markdown would take for markup stand for themselves; code stays."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        raise ValueError(f"a backtick is not closed: {text}")
    parts[::2] = [_escaped(part) for part in parts[::2]]
    return "`".join(parts)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*\[\]<|$~])|(?<!\w)(_)|(_)(?!\w)", r"\\\1\2\3", text)


def _contents(group: str, known: Sequence[Definition]) -> str:
    anchor = f"{GROUP_TITLES[group]} (`{group}`)".lower()
    anchor = re.sub(r"[^\w\- ]", "", anchor).replace(" ", "-")
    rows = "\n".join(
        f"| [{item.indicator_id}](#{re.sub(r'[^a-z0-9_]', '', item.indicator_id)})"
        f" | {plain(item.title)} | `{item.primary}` | {_family(item)} |"
        for item in known
    )
    return (
        f"**[{GROUP_TITLES[group]}](#{anchor})**\n\n"
        f"| id | title | primary output | its rule |\n|---|---|---|---|\n{rows}\n"
    )


def _family(known: Definition) -> str:
    rule = known.output().rule
    return f"`{rule.family}`" if rule else "cannot vote"


def _reads(known: Definition) -> str:
    if not known.sources:
        return _codes(known.inputs)
    beside = f"; beside it {_codes(known.inputs)}" if known.inputs else ""
    return f"{SOURCE}, one of {_codes(known.sources)}{beside}"


def _first(first: Sequence[tuple[str, int]]) -> str:
    """One number where all outputs begin together, else one for each."""
    if len({bar for _, bar in first}) == 1:
        return f"bar {first[0][1]}"
    return ", ".join(f"`{name}` bar {bar}" for name, bar in first)


def _param_row(param: Param) -> str:
    numbers = (param.hard_min, param.hard_max, param.step, param.default)
    return f"| `{param.name}` | " + " | ".join(str(value) for value in numbers) + " |"


def _output_row(known: Definition, output: Output) -> str:
    primary = ", primary" if output.name == known.primary else ""
    params = output.rule.params if output.rule else ()
    proposed = "; ".join(f"`{param.name}` {_proposed(param)}" for param in params)
    return f"| `{output.name}`{primary} | {rule_text(output)} | {proposed or '–'} |"


def _proposed(param: RuleParam) -> str:
    known = param.proposed
    if isinstance(known, Listed):
        return ", ".join(str(value) for value in known.values)
    return f"{known.start} to {known.stop_incl} by {known.step}"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
