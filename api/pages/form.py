"""The form of a back-test and the request that it means: two functions that undo each other.

A field is called as its value in the request is: `time_range.start`, `template.timeframe`. What
belongs to an indicator is called by its id: `blocks.ma.sma.params.window.start`,
`signals.momentum.rsi.long_threshold.values`. Fields hold texts as they are typed; what is wrong
with them the request says, so a text that is no number stays a text in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from compute.indicators.definition import SOURCE
from compute.indicators.registry import definition
from compute.market.period import instant
from compute.request import BacktestRequest, IndicatorBlock, parse_request
from compute.settings import Defaults

Request = dict[str, Any]
Pairs = list[tuple[str, str]]

INDICATOR: Final = "indicator"
"""The field that is there once for each indicator, in their order."""
KEPT: Final = "kept"
"""The field of what no other field can hold: its path and its value, as JSON."""
AS: Final = "as"
RANGE, LIST = "range", "list"
_RANGE_FIELDS: Final = ("start", "stop_incl", "step")
_STOPS: Final = ("sl", "tp")
_WHOLE: Final = 2**53


def number(text: str) -> int | float | str | None:
    """The number that a text is; the text itself where it is none, None where it is empty."""
    if not text:
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def _sent_moment(text: str) -> str | None:
    if re.search(r"T\d\d:\d\d$", text):
        text += ":00"
    zoned = re.search(r"(Z|[+-]\d\d:?\d\d)$", text, re.IGNORECASE)
    return (text if zoned else f"{text}Z") if text else None


def _flag(text: str) -> bool | None:
    return True if text else None


def _word(text: str) -> str | None:
    return text or None


Meant = Callable[[str], Any]
_WHERE: Final[dict[str, Meant]] = {
    "time_range.start": _sent_moment,
    "time_range.end": _sent_moment,
    "template.instrument_id.market_id": number,
    "template.instrument_id.symbol": _word,
    "template.timeframe": _word,
}
_HOW: Final[dict[str, Meant]] = {
    "template.direction_mode": _word,
    "template.sizing_mode": _word,
    "template.execution.init_cash_quote": number,
    "template.execution.fee_pct": number,
    "template.execution.slippage_pct": number,
    "template.execution.fixed_quote": number,
    "template.execution.safe_profit_percent": number,
    "template.risk_grid.sl_enabled": _flag,
    "template.risk_grid.tp_enabled": _flag,
    "ranking.primary_metric": _word,
    "ranking.secondary_metric": _word,
    "ranking.min_trades": number,
    "ranking.distinct": _flag,
    "validation.holdout_fraction": number,
    "warmup_bars": number,
    "top_k": number,
    "preselect": number,
    "top_trades_n": number,
}
"""Fields of one value, and what their texts mean: what is tested stands between these two."""


class Fields:
    """What a form holds: texts by name, in order; a name may come more than once."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: Pairs = [(name, text.strip()) for name, text in pairs]
        self._texts: dict[str, list[str]] = {}
        for name, text in self.pairs:
            self._texts.setdefault(name, []).append(text)

    def text(self, name: str) -> str:
        """The text of a field, empty where there is none."""
        return self._texts.get(name, [""])[-1]

    def texts(self, name: str) -> list[str]:
        """All texts of a field that are not empty, each once."""
        return list(dict.fromkeys(filter(None, self._texts.get(name, []))))

    def below(self, name: str) -> list[str]:
        """What the names that begin with `name` and a dot go on with, up to the next dot."""
        start = f"{name}."
        inside = (known[len(start) :] for known in self._texts if known.startswith(start))
        return list(dict.fromkeys(rest.split(".")[0] for rest in inside))

    @property
    def indicators(self) -> list[str]:
        """Ids of the indicators, in order."""
        return self.texts(INDICATOR)


def request_of(fields: Fields) -> Request:
    """The request that a form means, valid or not; what is left empty is left out."""
    found: Request = {}
    for name, meant in _WHERE.items():
        _put(found, name, meant(fields.text(name)))
    signals: Request = {}
    blocks = [_block(fields, one, signals) for one in fields.indicators]
    _put(found, "template.indicator_grids", blocks)
    _put(found, "template.signal_grids", signals or None)
    for name, meant in _HOW.items():
        _put(found, name, meant(fields.text(name)))
    for name in _STOPS:
        path = f"template.risk_grid.{name}"
        _put(found, path, axis_of(fields, path))
    for text in fields.texts(KEPT):
        _keep(found, fields.indicators, text)
    return found


def fields_of(body: Mapping[str, Any], defaults: Defaults) -> Fields:
    """The form that means a request in template mode; `defaults` say what it ranks by in silence.

    Raises: InvalidRequest, InvalidGrid for an unknown indicator.
    """
    request = parse_request(body)
    template, stops = request.template, request.template.risk_grid
    sent = _plain(request, defaults)
    pairs: Pairs = []
    for name in (*_WHERE, *_HOW):
        value = _at(sent, name)
        if isinstance(value, bool):
            pairs += [(name, "on")] if value else []
        elif value is not None:
            pairs.append((name, value if isinstance(value, str) else _text(_tidy(value))))
    for name in _STOPS if stops is not None else ():
        axis, scalar = getattr(stops, name), getattr(stops, f"{name}_pct")
        spec = axis.spec() if axis is not None else None
        if spec is None and scalar is not None:
            spec = {"mode": "explicit", "values": [scalar]}
        if spec is not None:
            pairs += _kept_or(["template", "risk_grid", name], spec, there=True)
    signals = template.signal_grids or {}
    chosen = [block.indicator_id for block in template.indicator_grids]
    for block in template.indicator_grids:
        pairs += _block_pairs(block, signals.get(block.indicator_id, {}))
    for name, axes in signals.items():
        if name not in chosen:
            pairs += [_kept(["signals", name, one], spec.spec()) for one, spec in axes.items()]
    return Fields(pairs)


def field_of(path: str, body: Mapping[str, Any]) -> str:
    """The field that a fault's path in a request belongs to."""
    name = re.sub(r"\.values\.\d+$", ".values", path.removeprefix("body."))
    name = re.sub(r"^template\.signal_grids\.", "signals.", name)
    found = re.match(r"template\.indicator_grids\.(\d+)\.?(.*)", name)
    if found is None:
        return name
    blocks = (body.get("template") or {}).get("indicator_grids") or []
    at = int(found[1])
    one = blocks[at].get("indicator_id", "") if at < len(blocks) else ""
    return f"blocks.{one}.{found[2]}".rstrip(".")


def axis_of(fields: Fields, name: str) -> Request | None:
    """The axis that the fields under `name` mean; None where nothing is filled in."""
    if fields.text(f"{name}.{AS}") == LIST:
        values = [number(one) for one in re.split(r"[\s,;]+", fields.text(f"{name}.values")) if one]
        return {"mode": "explicit", "values": values} if values else None
    numbers = {one: number(fields.text(f"{name}.{one}")) for one in _RANGE_FIELDS}
    given = {one: value for one, value in numbers.items() if value is not None}
    return {"mode": "range", **given} if given else None


def axis_pairs(name: str, spec: Mapping[str, Any]) -> Pairs:
    """The fields under `name` that mean an axis of numbers."""
    if spec["mode"] == "range":
        return [(f"{name}.{AS}", RANGE)] + [
            (f"{name}.{one}", _text(spec[one])) for one in _RANGE_FIELDS
        ]
    listed = ", ".join(map(_text, spec["values"]))
    return [(f"{name}.{AS}", LIST), (f"{name}.values", listed)]


def _block(fields: Fields, indicator_id: str, signals: Request) -> Request:
    """One block; the axes of its rule go into `signals`."""
    name = f"blocks.{indicator_id}"
    found: Request = {"indicator_id": indicator_id}
    if sources := fields.texts(f"{name}.{SOURCE}"):
        found[SOURCE] = {"mode": "explicit", "values": sources}
    params = {
        one: axis_of(fields, f"{name}.params.{one}") for one in fields.below(f"{name}.params")
    }
    found["params"] = {one: axis for one, axis in params.items() if axis is not None}
    if output := fields.text(f"{name}.output"):
        found["output"] = output
    rule = f"signals.{indicator_id}"
    axes = {one: axis_of(fields, f"{rule}.{one}") for one in fields.below(rule)}
    if axes := {one: axis for one, axis in axes.items() if axis is not None}:
        signals[indicator_id] = axes
    return found


def _block_pairs(block: IndicatorBlock, signals: Mapping[str, Any]) -> Pairs:
    known = definition(block.indicator_id)
    name = f"blocks.{block.indicator_id}"
    pairs: Pairs = [(INDICATOR, block.indicator_id)]
    if block.source is not None:
        spec = block.source.spec()
        values = [v.strip().lower() if isinstance(v, str) else v for v in spec.get("values", [])]
        if values and {*values} <= {*known.sources} and len({*values}) == len(values):
            pairs += [(f"{name}.{SOURCE}", one) for one in values]
        else:
            pairs.append(_kept(["blocks", block.indicator_id, SOURCE], spec))
    names = [param.name for param in known.params]
    for one, axis in block.params.items():
        path = ["blocks", block.indicator_id, "params", one]
        pairs += _kept_or(path, axis.spec(), one in names)
    output = known.primary if block.output is None else block.output
    if any(item.name == output and item.rule is not None for item in known.outputs):
        if block.output is not None:
            pairs.append((f"{name}.output", output))
    else:
        pairs.append(_kept(["blocks", block.indicator_id, "output"], output))
    rule = next((item.rule for item in known.outputs if item.name == output), None)
    ruled = [param.name for param in rule.params] if rule is not None else []
    for one, axis in signals.items():
        pairs += _kept_or(["signals", block.indicator_id, one], axis.spec(), one in ruled)
    return pairs


def _kept_or(path: Sequence[str], spec: Request, there: bool) -> Pairs:
    """The fields of an axis; the field of what is kept where there are none for it."""
    if there and not any(isinstance(value, str) for value in spec.get("values", [])):
        return axis_pairs(".".join(path), spec)
    return [_kept(path, spec)]


def _kept(path: Sequence[str], value: Any) -> tuple[str, str]:
    return KEPT, json.dumps([[*path], value])


def _keep(found: Request, indicators: Sequence[str], text: str) -> None:
    """Puts what was kept back where it was; what is no such text is let go."""
    try:
        path, value = json.loads(text)
        kind, *rest = map(str, path)
    except (ValueError, TypeError, RecursionError):
        return
    template = found["template"]
    if kind == "signals" and len(rest) == 2:
        template.setdefault("signal_grids", {}).setdefault(rest[0], {})[rest[1]] = value
    elif kind == "blocks" and len(rest) > 1 and rest[0] in indicators:
        place = template["indicator_grids"][indicators.index(rest[0])]
        for name in rest[1:-1]:
            place = place.setdefault(name, {})
        place[rest[-1]] = value
    elif kind == "template" and rest[:1] == ["risk_grid"] and len(rest) == 2:
        template.setdefault("risk_grid", {})[rest[1]] = value


def _plain(request: BacktestRequest, defaults: Defaults) -> Request:
    """The single values of a request by their names, with the ranking it will have."""
    template, ranking, validation = request.template, request.ranking, request.validation
    period = request.time_range.period
    found: Request = {
        "time_range": {
            "start": _moment(period.start_ms),
            "end": _moment(period.end_ms),
        },
        "template": {
            "instrument_id": {
                "market_id": template.instrument_id.market_id,
                "symbol": template.instrument_id.instrument.symbol,
            },
            "timeframe": template.timeframe.code,
            "direction_mode": template.direction_mode,
            "sizing_mode": template.sizing_mode,
            "execution": dict(template.execution or {}),
            "risk_grid": dict(template.risk_grid or {}),
        },
        "ranking": dict(ranking)
        if ranking is not None
        else {
            "primary_metric": defaults.primary_metric_default,
            "secondary_metric": defaults.secondary_metric_default,
        },
        "validation": dict(validation or {}),
    }
    for name in ("warmup_bars", "top_k", "preselect", "top_trades_n"):
        found[name] = getattr(request, name)
    for section, name in (("ranking", "min_trades"), ("validation", "holdout_fraction")):
        if not found[section].get(name):
            found[section].pop(name, None)  # as without it
    return found


def _moment(ms: int) -> str:
    """A time as the browser's field has it: in UTC, to the minute where that is all of it."""
    text = instant(ms).removesuffix("Z")
    return text.removesuffix(":00") if ms % 60_000 == 0 else text


def _text(value: float) -> str:
    return json.dumps(value)


def _tidy(value: float) -> float:
    """A whole number as one writes it."""
    return int(value) if float(value).is_integer() and abs(value) < _WHOLE else value


def _at(found: Mapping[str, Any], path: str) -> Any:
    value: Any = found
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _put(found: Request, path: str, value: Any) -> None:
    """Puts a value at a path; nothing for None."""
    if value is None:
        return
    *names, last = path.split(".")
    for name in names:
        found = found.setdefault(name, {})
    found[last] = value
