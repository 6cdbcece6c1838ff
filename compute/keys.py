"""Identity keys and hashes: lower-case hex SHA-256 of canonical JSON.

The byte layout is a contract (keys are stored and compared across versions): sorted keys, no
spaces, numbers in the JSON kind they have in Python, `3` and `3.0` being different.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any

from compute.axes import Scalar
from compute.errors import InvalidInput
from compute.grid import Axis, Grid, Selection
from compute.market.period import Period, instant
from compute.risk import RiskGrid, risk_params

if TYPE_CHECKING:
    from compute.settings import Defaults

RISK_OFF: dict[str, Any] = risk_params()


def canonical_json(value: object, *, ascii_only: bool = True) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces. Raises: InvalidInput for NaN or infinity."""
    try:
        text = json.dumps(
            value,
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=ascii_only,
            allow_nan=False,
        )
    except ValueError as error:
        raise InvalidInput(f"value cannot be hashed: {error}") from None
    return text.encode()


def _digest(value: object, *, ascii_only: bool = True) -> str:
    return sha256(canonical_json(value, ascii_only=ascii_only)).hexdigest()


def indicator_variant_key(
    instrument_id: str, timeframe: str, selections: Iterable[Selection]
) -> str:
    """Key of the computed series: instrument, timeframe, indicators with inputs and params.

    An `output` is hashed only when it is set, which is when it is not the primary one.
    Raises: InvalidInput for a blank or repeated name.
    """
    indicators: dict[str, dict[str, Any]] = {}
    for choice in selections:
        name = _name(choice.indicator_id, "indicator id")
        if name in indicators:
            raise InvalidInput(f"indicator id must be unique in a key, {name!r} comes twice")
        indicators[name] = {
            "id": name,
            "inputs": _pairs(choice.inputs, "input name"),
            "params": _pairs(choice.params, "param name"),
            **({} if choice.output is None else {"output": choice.output}),
        }
    document = {
        "indicators": [indicators[name] for name in sorted(indicators)],
        "instrument_id": _named(instrument_id, "instrument id"),
        "schema_version": 1,
        "timeframe": _name(timeframe, "timeframe"),
    }
    return _digest(document, ascii_only=False)


def variant_key(
    indicator_key: str,
    *,
    direction_mode: str,
    sizing_mode: str,
    signals: Mapping[str, Mapping[str, int | float]],
    execution: Mapping[str, float],
    risk: Mapping[str, Any],
) -> str:
    """Key of one expanded variant; indicators without rule parameters are left out of `signals`."""
    return _digest(
        {
            "direction_mode": _name(direction_mode, "direction mode"),
            "execution": dict(execution),
            "indicator_variant_key": indicator_key,
            "risk": dict(risk),
            "schema_version": 1,
            "signals": {
                _name(indicator_id, "indicator id"): {
                    _name(name, "signal param"): value for name, value in params.items()
                }
                for indicator_id, params in signals.items()
                if params
            },
            "sizing_mode": _name(sizing_mode, "sizing mode"),
        }
    )


def base_variant_key(
    indicator_key: str,
    *,
    direction_mode: str,
    sizing_mode: str,
    signals: Mapping[str, Mapping[str, int | float]],
    execution: Mapping[str, float],
) -> str:
    """Key of one base variant: the variant key with both risk sides off."""
    return variant_key(
        indicator_key,
        direction_mode=direction_mode,
        sizing_mode=sizing_mode,
        signals=signals,
        execution=execution,
        risk=RISK_OFF,
    )


def engine_params_hash(
    *, direction_mode: str, sizing_mode: str, execution: Mapping[str, float]
) -> str:
    """Hash of modes and the five effective execution values."""
    return _digest(
        {
            "direction_mode": direction_mode,
            "execution": dict(execution),
            "sizing_mode": sizing_mode,
        }
    )


def grid_request_hash(body: Mapping[str, Any], period: Period) -> str:
    """Hash of a template request as it was sent: nulls dropped, times in UTC with `Z`.

    The four limits keep their nulls; `ranking` and `validation` count only when they were sent.
    """
    document: dict[str, Any] = {
        "mode": "template",
        "time_range": {"start": instant(period.start_ms), "end": instant(period.end_ms)},
        "template": _without_nulls(body["template"]),
    }
    for name in ("warmup_bars", "top_k", "preselect", "top_trades_n"):
        document[name] = body.get(name)
    for name in ("ranking", "validation"):
        if body.get(name) is not None:
            document[name] = _without_nulls(body[name])
    return _digest(document)


def backtest_runtime_config_hash(defaults: Defaults) -> str:
    """Hash of the configuration that can change a result; limits and operational keys do not."""
    return _digest(
        {
            "backtest": {
                "warmup_bars_default": defaults.warmup_bars_default,
                "top_k_default": defaults.top_k_default,
                "preselect_default": defaults.preselect_default,
                "ranking": {
                    "primary_metric_default": defaults.primary_metric_default,
                    "secondary_metric_default": defaults.secondary_metric_default,
                },
                "execution": {
                    "init_cash_quote_default": defaults.init_cash_quote_default,
                    "fixed_quote_default": defaults.fixed_quote_default,
                    "safe_profit_percent_default": defaults.safe_profit_percent_default,
                    "slippage_pct_default": defaults.slippage_pct_default,
                    "fee_pct_default_by_market_id": {
                        str(market): fee
                        for market, fee in defaults.fee_pct_default_by_market_id.items()
                    },
                },
                "reporting": {
                    "top_trades_n_default": defaults.top_trades_n_default,
                    "eager_top_reports_enabled": defaults.eager_top_reports_enabled,
                },
                "jobs": {"top_k_persisted_default": defaults.top_k_persisted_default},
            }
        }
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(v) for v in value]
    return value


def _named(text: str, what: str) -> str:
    if not (name := text.strip()):
        raise InvalidInput(f"{what} must not be blank")
    return name


def _name(text: str, what: str) -> str:
    return _named(text, what).lower()


def _pairs(values: Mapping[str, Scalar], what: str) -> list[list[Scalar]]:
    named = {_named(name, what): value for name, value in values.items()}
    return [[name, named[name]] for name in sorted(named)]


class KeyTemplate:
    """Keys of a grid's variants from bytes prepared once: a few microseconds a key.

    The keys equal those of the plain functions. An instance may be shared by threads.
    """

    __slots__ = ("_head", "_indicators", "_last", "_off", "_signals", "_sl", "_tp", "grid", "risk")

    def __init__(
        self,
        grid: Grid,
        risk: RiskGrid,
        *,
        instrument_id: str,
        timeframe: str,
        direction_mode: str,
        sizing_mode: str,
        execution: Mapping[str, float],
    ) -> None:
        self.grid = grid
        self.risk = risk
        self._indicators = _indicator_text(grid, instrument_id, timeframe)
        self._head = (
            b'{"direction_mode":' + canonical_json(_name(direction_mode, "direction mode"))
            + b',"execution":' + canonical_json(dict(execution))
            + b',"indicator_variant_key":"'
        )  # fmt: skip
        self._sl = [_risk_text("sl", level) for level in risk.sl]
        self._tp = [_risk_text("tp", level) for level in risk.tp]
        self._off = b'","risk":{' + _risk_text("sl", None) + b"," + _risk_text("tp", None)
        self._signals = _signal_text(grid, _name(sizing_mode, "sizing mode"))
        self._last: tuple[int, str] = (-1, "")

    def indicator_key(self, flat: int) -> str:
        """`indicator_variant_key` of a base variant."""
        return self._indicator_key(flat // self.grid.signal_total)

    def base_key(self, flat: int) -> str:
        """`base_variant_key` of a base variant."""
        return self._key(flat, self._off)

    def variant_key(self, flat: int, risk_index: int) -> str:
        """`variant_key` of a base variant with one pair of risk levels."""
        i_sl, i_tp = divmod(risk_index, len(self._tp))
        return self._key(flat, b'","risk":{' + self._sl[i_sl] + b"," + self._tp[i_tp])

    def _key(self, flat: int, risk: bytes) -> str:
        compute_index, signal_index = divmod(flat, self.grid.signal_total)
        indicator_key = self._indicator_key(compute_index).encode()
        tail = self._signals.at(signal_index)
        return sha256(self._head + indicator_key + risk + tail).hexdigest()

    def _indicator_key(self, compute_index: int) -> str:
        """Signal axes run fastest, so neighbours in the enumeration share this key."""
        known, key = self._last
        if known != compute_index:
            key = sha256(self._indicators.at(compute_index)).hexdigest()
            self._last = (compute_index, key)
        return key


class _Text:
    """Bytes with slots: a slot holds the text of one axis value, picked by an index."""

    __slots__ = ("_slots", "_tail")

    def __init__(self, parts: Sequence[bytes | tuple[Axis, int]], *, ascii_only: bool) -> None:
        """`parts` are constant bytes or (axis, stride of the axis in the index)."""
        constant = b""
        self._slots: list[tuple[list[bytes], int, int]] = []
        for part in parts:
            if isinstance(part, bytes):
                constant += part
                continue
            axis, stride = part
            texts = [constant + _value_text(value, ascii_only) for value in axis.values]
            if len(texts) == 1:
                constant = texts[0]
            else:
                self._slots.append((texts, stride, len(texts)))
                constant = b""
        self._tail = constant

    def at(self, index: int) -> bytes:
        """The whole text at `index`."""
        return (
            b"".join([texts[(index // stride) % size] for texts, stride, size in self._slots])
            + self._tail
        )


def _value_text(value: Scalar, ascii_only: bool) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False).encode()


def _strided(axes: Iterable[Axis]) -> Iterator[tuple[Axis, int]]:
    """(axis, stride of its digit in the row-major index over `axes`), in the given order."""
    ordered = tuple(axes)
    stride = math.prod(map(len, ordered))
    for axis in ordered:
        stride //= len(axis)
        yield axis, stride


def _indicator_text(grid: Grid, instrument_id: str, timeframe: str) -> _Text:
    """The document of `indicator_variant_key` with a slot per compute axis."""
    strided = _strided(axis for part in grid.indicators for axis in part.compute)
    parts: list[bytes | tuple[Axis, int]] = [b'{"indicators":[']
    for k, part in enumerate(grid.indicators):
        axes = {axis.name: (axis, stride) for axis, stride in islice(strided, len(part.compute))}
        inputs = [name for name in sorted(axes) if isinstance(axes[name][0].values[0], str)]
        params = [name for name in sorted(axes) if name not in inputs]
        parts.append((b"," if k else b"") + b'{"id":' + _text(part.indicator_id) + b',"inputs":')
        parts += _pair_slots(axes, inputs)
        if part.output != part.definition.primary:
            parts.append(b',"output":' + _text(part.output))
        parts.append(b',"params":')
        parts += _pair_slots(axes, params)
        parts.append(b"}")
    parts.append(
        b'],"instrument_id":' + _text(_named(instrument_id, "instrument id"))
        + b',"schema_version":1,"timeframe":' + _text(_name(timeframe, "timeframe")) + b"}"
    )  # fmt: skip
    return _Text(parts, ascii_only=False)


def _pair_slots(
    axes: Mapping[str, tuple[Axis, int]], names: Sequence[str]
) -> list[bytes | tuple[Axis, int]]:
    parts: list[bytes | tuple[Axis, int]] = [b"["]
    for i, name in enumerate(names):
        parts += [(b"," if i else b"") + b"[" + _text(name) + b",", axes[name], b"]"]
    return [*parts, b"]"]


def _text(value: str) -> bytes:
    return canonical_json(value, ascii_only=False)


def _signal_text(grid: Grid, sizing_mode: str) -> _Text:
    """The end of the document of `variant_key`, from the closed risk block on."""
    strided = _strided(axis for part in grid.indicators for axis in part.signals)
    parts: list[bytes | tuple[Axis, int]] = [b'},"schema_version":1,"signals":{']
    for k, part in enumerate(part for part in grid.indicators if part.signals):
        parts.append((b"," if k else b"") + canonical_json(part.indicator_id) + b":{")
        for i, (axis, stride) in enumerate(islice(strided, len(part.signals))):
            parts += [(b"," if i else b"") + canonical_json(axis.name) + b":", (axis, stride)]
        parts.append(b"}")
    parts.append(b'},"sizing_mode":' + canonical_json(sizing_mode) + b"}")
    return _Text(parts, ascii_only=True)


def _risk_text(name: str, level: float | None) -> bytes:
    """`"sl_enabled":…,"sl_pct":…`, the half of the risk block that one side owns."""
    return canonical_json({f"{name}_enabled": level is not None, f"{name}_pct": level})[1:-1]
