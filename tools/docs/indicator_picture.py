"""A picture of one indicator as SVG: price, outputs, and where the primary output votes.

Colours follow the reader's light or dark setting. A bar is four pixels wide and coordinates have
one decimal, which keeps a picture small and its bytes equal on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from tools.docs.indicator_example import SHOWN_BARS, Example
from tools.docs.indicator_panels import Curve, Panel, panels

WIDTH: Final = 720
LEFT: Final = 12
BAR: Final = 4
RIGHT: Final = LEFT + BAR * SHOWN_BARS
MARGIN: Final = 8  # between panels
STRIP: Final = 12  # height of the row of votes
PRICE_ALONE, PRICE_ABOVE = 206, 140
BELOW: Final = {1: 92, 2: 64, 3: 52}
LETTER: Final = 6.2  # mean width of a letter of the legend
LIGHT: Final = ("#0550ae", "#bc4c00", "#8250df", "#0f766e", "#bf3989", "#7d5e00", "#57606a")
DARK: Final = ("#58a6ff", "#f0883e", "#bc8cff", "#39c5cf", "#f778ba", "#e3b341", "#b1bac4")


def picture(shown: Example) -> str:
    """The SVG text of an indicator's example."""
    price, below = panels(shown)
    legend, top = _legend(shown)
    parts: list[str] = []
    height = PRICE_ABOVE if below else PRICE_ALONE
    frames = [(price, top, height)]
    votes = shown.definition.output().rule is not None
    strip = top + height + MARGIN
    at = strip + (STRIP + MARGIN if votes else 0)
    for panel in below:
        frames.append((panel, at, BELOW[min(len(below), 3)]))
        at += frames[-1][2] + MARGIN
    bottom = at - MARGIN
    if votes:
        parts += _shade(shown.votes, top, bottom)
        parts += _vote_strip(shown.votes, strip)
    for panel, start, size in frames:
        parts += _frame(panel, start, size)
        if panel is price:
            parts += _traded(shown, panel, start, size)
        elif panel.volume:
            parts.append(_bars("v", shown.series.volume, panel, start, size))
        parts += _curves(panel, start, size)
    text = "\n".join([*_head(shown, bottom + MARGIN), *legend, *parts, "</svg>"])
    return text + "\n"


def compact(value: float, span: float) -> str:
    """A number short enough for an axis that covers `span`: 21.3k, 1.2M, 64.5, 0.012, 4.5e-07."""
    for least, unit, name in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.1f}{name}"
    digits = 2 - math.floor(math.log10(span))
    if digits > 6:
        return f"{value:.1e}"
    text = f"{value:.{max(digits, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def number(value: float) -> str:
    """A coordinate with one decimal at most."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def center(bar: int) -> int:
    """x of the middle of a shown bar."""
    return LEFT + BAR * bar + BAR // 2


def height_of(value: float, panel: Panel, top: float, size: float) -> float:
    """y of a value in a panel that begins at `top`; four pixels are kept free above and below."""
    return top + 4 + (size - 8) * (panel.high - value) / (panel.high - panel.low)


def runs(mask: Iterable[bool]) -> list[tuple[int, int]]:
    """Maximal half-open runs of true flags."""
    found: list[tuple[int, int]] = []
    start = None
    flags = [*mask, False]
    for t, true in enumerate(flags):
        if true and start is None:
            start = t
        elif not true and start is not None:
            found.append((start, t))
            start = None
    return found


def _head(shown: Example, height: int) -> list[str]:
    known = shown.definition
    style = _style(len(known.outputs))
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(known.title)} ({known.indicator_id})</title>',
        f'<desc id="d">{escape(description(shown))}</desc>',
        f"<style>{style}</style>",
        f'<rect class="bg" width="{WIDTH}" height="{height}" rx="6"/>',
    ]


def description(shown: Example) -> str:
    """What the picture shows, in words."""
    known = shown.definition
    names = ", ".join(output.name for output in known.outputs)
    text = f"Made-up hourly candles, {SHOWN_BARS} of them, with {names}"
    text += f" at {settings(shown.params)}." if shown.params else "."
    if known.output().rule is None:
        return f"{text} {known.primary} cannot vote."
    long, short = int(np.sum(shown.votes > 0)), int(np.sum(shown.votes < 0))
    with_values = f" with {settings(shown.signals)}" if shown.signals else ""
    return (
        f"{text} {known.primary} votes LONG on {long} bars (green) and SHORT on {short} (red)"
        f"{with_values}."
    )


def settings(values: dict[str, int | float]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _style(count: int) -> str:
    """Rules of both themes, without CSS variables, which not every SVG program knows."""

    def theme(colors: Sequence[str], bg: str, ink: str, soft: str, long: str, short: str) -> str:
        return (
            f"text{{fill:{ink}}}.bg,.u{{fill:{bg}}}.d,.v,text.m{{fill:{soft}}}"
            f".u,.d,.w,.z,.f{{stroke:{soft}}}.L{{fill:{long}}}.S{{fill:{short}}}"
        ) + "".join(
            f".k{i},.h{i}{{fill:{color}}}.o{i},.t{i}{{stroke:{color}}}"
            for i, color in enumerate(colors[:count])
        )

    light = theme(LIGHT, "#fff", "#1f2328", "#7d8590", "#1a7f37", "#cf222e")
    dark = theme(DARK, "#0d1117", "#e6edf3", "#7d8590", "#3fb950", "#f85149")
    return (
        "text{font:11px system-ui,-apple-system,'Segoe UI',sans-serif}.b{font-weight:600}"
        ".f,.z,.w,.o,.t{fill:none}.f{opacity:.4}.z{stroke-dasharray:3 3}.v{opacity:.35}"
        ".a{opacity:.14}.h{opacity:.55}.o{stroke-width:1.2;stroke-linejoin:round}.o.p{stroke-width:2}"
        ".t{stroke-width:4;stroke-linecap:round}"
        f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
    )


def _legend(shown: Example) -> tuple[list[str], int]:
    """Header and legend, and the y at which the panels may begin."""
    known = shown.definition
    used = f" · {settings(shown.params)}" if shown.params else ""
    parts = [
        f'<text x="{LEFT}" y="18"><tspan class="b">{known.indicator_id}</tspan>'
        f"{escape(used)}</text>"
    ]
    entries = [(f"k{i}", output.name) for i, output in enumerate(known.outputs)]
    if known.output().rule:
        by = f"SHORT by {known.primary}"
        by += f" ({settings(shown.signals)})" if shown.signals else ""
        entries += [("L", "LONG"), ("S", by)]
    else:
        entries.append(("", f"{known.primary} cannot vote"))
    x, y = float(LEFT), 36
    for i, (css, text) in enumerate(entries):
        wide = _entry_width(css, text)
        # LONG stays in one row with SHORT, which says by which output.
        needed = wide + (_entry_width(*entries[i + 1]) + 12 if css == "L" else 0)
        if x + needed > WIDTH - LEFT:
            x, y = float(LEFT), y + 16
        if css:
            parts.append(f'<rect class="{css}" x="{number(x)}" y="{y - 8}" width="11" height="8"/>')
        start = x + 16 if css else x
        parts.append(f'<text x="{number(start)}" y="{y}">{escape(text)}</text>')
        x += wide + 12
    return parts, y + 10


def _entry_width(css: str, text: str) -> float:
    """About how wide an entry of the legend is, its patch of colour included."""
    return LETTER * len(text) + (16 if css else 0)


def _shade(votes: NDArray[np.int8], top: int, bottom: int) -> list[str]:
    """Faint columns behind all panels where there is a vote."""
    return [
        f'<path class="a {css}" d="{_blocks(runs(votes == side), top, bottom - top)}"/>'
        for css, side in (("L", 1), ("S", -1))
        if np.any(votes == side)
    ]


def _vote_strip(votes: NDArray[np.int8], top: int) -> list[str]:
    """The same votes without relying on colour: LONG blocks above the line, SHORT below."""
    half, middle = STRIP // 2 - 1, top + STRIP // 2
    parts = [f'<path class="f" d="M{LEFT} {middle}H{RIGHT}"/>']
    for css, side, start in (("L", 1, top), ("S", -1, middle + 1)):
        if np.any(votes == side):
            parts.append(f'<path class="{css}" d="{_blocks(runs(votes == side), start, half)}"/>')
    parts.append(f'<text class="m" x="{RIGHT + 6}" y="{middle + 4}">votes</text>')
    return parts


def _blocks(spans: Iterable[tuple[int, int]], top: int, size: int) -> str:
    return "".join(
        f"M{LEFT + BAR * start} {top}h{BAR * (stop - start)}v{size}h-{BAR * (stop - start)}z"
        for start, stop in spans
    )


def _frame(panel: Panel, top: int, size: int) -> list[str]:
    """Border, the levels that decide a vote, and labels that do not overlap."""
    parts = [f'<path class="f" d="M{LEFT} {top}H{RIGHT}V{top + size}H{LEFT}z"/>']
    taken: list[float] = []
    for level in panel.levels:
        y = height_of(level, panel, top, size)
        parts.append(f'<path class="z" d="M{LEFT} {number(y)}H{RIGHT}"/>')
    for value in (*panel.levels, panel.high, panel.low):
        y = height_of(value, panel, top, size)
        if all(abs(y - other) >= 11 for other in taken):
            taken.append(y)
            css = "" if value in panel.levels else ' class="m"'
            label = compact(value, panel.high - panel.low).replace("-", "−")
            parts.append(f'<text{css} x="{RIGHT + 6}" y="{number(y + 4)}">{label}</text>')
    return parts


def _traded(shown: Example, panel: Panel, top: int, size: int) -> list[str]:
    """Candles, hollow where they rise, and the volume at the foot for those that read it."""
    series, known = shown.series, shown.definition
    parts: list[str] = []
    if "volume" in known.inputs and not any(below.volume for below in panels(shown)[1]):
        most = float(np.max(series.volume))
        scale = Panel((), (), 0.0, most)
        parts.append(_bars("v", series.volume, scale, top + size - size // 5, size // 5))
    shapes = {"w": "", "u": "", "d": ""}
    for t in range(SHOWN_BARS):
        o, h, lo, c = (
            height_of(float(column[t]), panel, top, size)
            for column in (series.open, series.high, series.low, series.close)
        )
        upper, lower = min(o, c), max(o, c)
        shapes["w"] += f"M{center(t)} {number(h)}V{number(upper)}M{center(t)} {number(lower)}"
        shapes["w"] += f"V{number(lo)}"
        shape = f"M{center(t) - 1} {number(upper)}h2V{number(lower)}h-2z"
        shapes["u" if c <= o else "d"] += shape
    return [*parts, *(f'<path class="{css}" d="{path}"/>' for css, path in shapes.items() if path)]


def _bars(css: str, values: NDArray[np.float32], panel: Panel, top: int, size: int) -> str:
    """Columns from zero to each value."""
    base = height_of(0.0, panel, top, size)
    path = "".join(
        f"M{center(t) - 1} {number(base)}V{number(height_of(float(value), panel, top, size))}"
        f"h3V{number(base)}z"
        for t, value in enumerate(values)
        if math.isfinite(value)
    )
    return f'<path class="{css}" d="{path}"/>'


def _curves(panel: Panel, top: int, size: int) -> list[str]:
    """The outputs, columns first and the primary one on top."""
    order = sorted(panel.curves, key=lambda curve: (curve.form != "columns", curve.primary))
    parts: list[str] = []
    for curve in order:
        if curve.form == "columns":
            parts.append(_bars(f"h h{curve.color}", curve.values, panel, top, size))
            continue
        kind = "t" if curve.form == "dots" else "o"
        css = f"{kind} {kind}{curve.color}" + (" p" if curve.primary else "")
        path = line_path(curve, panel, top, size)
        if path:
            parts.append(f'<path class="{css}" d="{path}"/>')
    return parts


def line_path(curve: Curve, panel: Panel, top: int, size: int) -> str:
    """A line broken at missing values, steps, or a dot for each value."""
    ys = [number(height_of(float(v), panel, top, size)) if math.isfinite(v) else ""
          for v in curve.values]  # fmt: skip
    if curve.form == "dots":
        return "".join(f"M{center(t)} {y}h0" for t, y in enumerate(ys) if y)
    if curve.form == "steps":
        return "".join(
            f"M{center(start) - BAR // 2} {ys[start]}"
            + "".join(f"V{ys[t]}h{BAR}" for t in range(start, stop))
            for start, stop in runs(bool(y) for y in ys)
        )
    return "".join(
        "M" + " ".join(f"{center(t)} {ys[t]}" for t in range(start, stop))
        for start, stop in runs(bool(y) for y in ys)
    )
