"""Axis specs of a request or a default, and the values they stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from compute.errors import InvalidGrid

if TYPE_CHECKING:
    from compute.indicators.definition import Definition, Param, RuleParam

Scalar = int | float | str
Number = int | float

MAX_AXIS_VALUES = 1_000_000
LARGEST = 2**63  # of a number on an axis, in magnitude
GRID_TOLERANCE = 1e-9  # on the ratio to the hard step


class InvalidAxis(InvalidGrid):
    """A malformed axis spec; `at` is the dotted place inside it, `kind` the error's class."""

    def __init__(self, message: str, *, at: str = "", kind: str = "value_error") -> None:
        super().__init__(message)
        self.at = at
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Explicit:
    """Listed values, in the order they were sent."""

    values: tuple[Scalar, ...]

    def spec(self) -> dict[str, Any]:
        """Wire form of the axis."""
        return {"mode": "explicit", "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Range:
    """Inclusive arithmetic progression; the three numbers are kept as sent."""

    start: Number
    stop_incl: Number
    step: Number

    def spec(self) -> dict[str, Any]:
        """Wire form of the axis."""
        return {
            "mode": "range",
            "start": self.start,
            "stop_incl": self.stop_incl,
            "step": self.step,
        }

    def count(self) -> int:
        """Number of values, without building them."""
        start, stop, step, _ = self._scaled()
        return (stop - start) // step + 1

    def numbers(self) -> tuple[Number, ...]:
        """All values: integers when the three numbers are integral, else exact decimals as floats.

        Value i is `start + i * step` in decimal arithmetic on the shortest text of each number,
        rounded once, so that steps of 0.1 do not drift.
        """
        start, stop, step, scale = self._scaled()
        scaled = range(start, stop + 1, step)
        return tuple(scaled) if scale == 1 else tuple(i / scale for i in scaled)

    def _scaled(self) -> tuple[int, int, int, int]:
        """The three numbers as integers over one power of ten, and that power."""
        texts = [Decimal(repr(integral(x))) for x in (self.start, self.stop_incl, self.step)]
        digits = max(0, *(-int(text.as_tuple().exponent) for text in texts))
        scale = 10**digits
        start, stop, step = (int(text.scaleb(digits)) if digits else int(text) for text in texts)
        return start, stop, step, scale


AxisSpec = Explicit | Range

AXIS_SCHEMA: dict[str, Any] = {
    "description": "Values to try: listed ones, or an inclusive range.",
    "anyOf": [
        {
            "type": "object",
            "title": "Explicit axis",
            "properties": {
                "mode": {"const": "explicit", "description": "The values are listed."},
                "values": {
                    "type": "array",
                    "items": {"anyOf": [{"type": "number"}, {"type": "string"}]},
                    "minItems": 1,
                    "uniqueItems": True,
                    "description": "The values, in the order they are tried.",
                },
            },
            "required": ["mode", "values"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "title": "Range axis",
            "properties": {
                "mode": {"const": "range", "description": "The values are evenly spaced."},
                "start": {"type": "number", "description": "First value."},
                "stop_incl": {
                    "type": "number",
                    "description": "Largest value, if hit.",
                },
                "step": {"type": "number", "exclusiveMinimum": 0, "description": "Distance."},
            },
            "required": ["mode", "start", "stop_incl", "step"],
            "additionalProperties": False,
        },
    ],
}
"""What `axis_spec` takes, as JSON schema."""


def integral(value: Number) -> Number:
    """`value` as an int when it is a whole number, else unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def axis_spec(raw: object) -> AxisSpec:
    """The axis that a decoded JSON or YAML mapping describes.

    Raises: InvalidAxis for a wrong shape, an empty, repeated or reversed list of values, a
    boolean, a non-finite number, or more than `MAX_AXIS_VALUES` values.
    """
    if isinstance(raw, Explicit | Range):
        return raw
    if not isinstance(raw, Mapping):
        raise InvalidAxis(
            f"an axis is a mapping with mode explicit or range, got {_shown(raw)}",
            kind="mapping_type",
        )
    mode = raw.get("mode")
    if "mode" not in raw:
        raise InvalidAxis("an axis needs mode: explicit or range", at="mode", kind="required")
    name = mode.strip().lower() if isinstance(mode, str) else None
    if name == "explicit":
        _fields(raw, "explicit", ("values",))
        return _explicit(raw["values"])
    if name == "range":
        _fields(raw, "range", ("start", "stop_incl", "step"))
        return _range(raw)
    raise InvalidAxis(
        f"axis mode must be explicit or range, got {_shown(mode)}", at="mode", kind="literal_error"
    )


def _fields(raw: Mapping[Any, object], mode: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in raw:
            raise InvalidAxis(f"{mode} axis needs {name}", at=name, kind="required")
    for name in raw:
        if name != "mode" and name not in names:
            raise InvalidAxis(
                f"{mode} axis takes {', '.join(names)}, not {name!r}",
                at=str(name),
                kind="extra_forbidden",
            )


def _explicit(values: object) -> Explicit:
    if not isinstance(values, list | tuple):
        raise InvalidAxis(
            f"axis values must be a list, got {_shown(values)}", at="values", kind="list_type"
        )
    if not values:
        raise InvalidAxis("axis values must not be empty", at="values", kind="too_short")
    if len(values) > MAX_AXIS_VALUES:
        raise InvalidAxis(_too_many(len(values)), at="values", kind="too_long")
    seen: set[Scalar] = set()
    for i, value in enumerate(values):
        at = f"values.{i}"
        if not isinstance(value, str):
            _number(value, at, "axis value")
        if value in seen:
            raise InvalidAxis(
                f"axis values must be unique, {_shown(value)} comes twice", at=at, kind="duplicate"
            )
        seen.add(value)
    return Explicit(tuple(values))


def _range(raw: Mapping[Any, object]) -> Range:
    start, stop, step = (_number(raw[k], k, f"axis {k}") for k in ("start", "stop_incl", "step"))
    if step <= 0:
        raise InvalidAxis(f"axis step must be > 0, got {step}", at="step", kind="greater_than")
    if start > stop:
        raise InvalidAxis(
            f"axis start must be <= stop_incl, got {start} > {stop}", at="start", kind="reversed"
        )
    if (stop - start) / step > 2 * MAX_AXIS_VALUES:  # before exact arithmetic on huge numbers
        raise InvalidAxis(_too_many("over 2000000"), at="step", kind="too_long")
    spec = Range(start, stop, step)
    if (count := spec.count()) > MAX_AXIS_VALUES:
        raise InvalidAxis(_too_many(count), at="step", kind="too_long")
    return spec


def _number(value: object, at: str, what: str) -> Number:
    if isinstance(value, bool):
        raise InvalidAxis(f"{what} must not be a boolean, got {value}", at=at, kind="bool_type")
    if not isinstance(value, int | float):
        raise InvalidAxis(
            f"{what} must be a number, got {_shown(value)}", at=at, kind="number_type"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidAxis(f"{what} must be finite, got {value}", at=at, kind="finite_number")
    if abs(value) >= LARGEST:
        raise InvalidAxis(f"{what} must be below 2**63 in magnitude", at=at, kind="too_large")
    return value


def _too_many(count: int | str) -> str:
    return f"axis has {count} values, at most {MAX_AXIS_VALUES} are allowed; widen step"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def materialised(spec: AxisSpec) -> tuple[Scalar, ...]:
    """Values of the axis in order; a range that rounds two values to one float is refused."""
    if isinstance(spec, Explicit):
        return spec.values
    values = spec.numbers()
    if len(set(values)) != len(values):
        raise InvalidAxis("axis step is below the precision of a float", at="step")
    return values


def numeric(spec: AxisSpec, message: str, **details: str) -> tuple[Number, ...]:
    """Values of a numeric axis. Raises: InvalidGrid(message, details) when one is a string."""
    values = materialised(spec)
    numbers = tuple(v for v in values if not isinstance(v, str | bool))
    if len(numbers) != len(values):
        raise InvalidGrid(message, details=details)
    return numbers


def compute_values(definition: Definition, param: Param, spec: AxisSpec) -> tuple[Number, ...]:
    """Values of one indicator parameter, cast to its kind and checked against its hard grid.

    Explicit values are checked against kind and bounds only, a range against the step grid too
    (tolerance 1e-9 on the ratio). Raises: InvalidGrid.
    """
    where = f"{definition.indicator_id}.{param.name}"
    fields = {"indicator_id": definition.indicator_id, "axis": param.name}
    if isinstance(spec, Range):
        _on_step_grid(where, fields, param, spec)
    kind = "an integer" if param.kind == "int" else "a number"
    values: list[Number] = []
    for value in materialised(spec):
        if isinstance(value, str) or (param.kind == "int" and not isinstance(value, int)):
            raise InvalidGrid(
                f"{where} must be {kind}, got {value!r}",
                details={**fields, "expected": param.kind, "actual": value},
            )
        _in_bounds(where, fields, param, value)
        values.append(value if param.kind == "int" else float(value))
    return tuple(values)


def _in_bounds(where: str, fields: dict[str, str], param: Param, value: Number) -> None:
    if not param.hard_min <= value <= param.hard_max:
        raise InvalidGrid(
            f"{where} must be in {param.hard_min}..{param.hard_max}, got {value}",
            details={
                **fields,
                "hard_min": param.hard_min,
                "hard_max": param.hard_max,
                "actual": value,
            },
        )


def _on_step_grid(where: str, fields: dict[str, str], param: Param, spec: Range) -> None:
    """Bounds first: they limit how many values the later checks look at."""
    last = integral(spec.start) + (spec.count() - 1) * spec.step
    _in_bounds(where, fields, param, spec.start)
    if last > param.hard_max + param.step / 2:
        _in_bounds(where, fields, param, integral(last))
    if not on_step_grid(spec.step, 0, param.step) or spec.step < param.step / 2:
        raise InvalidGrid(
            f"{where} step must be a multiple of {param.step}, got {spec.step}",
            details={**fields, "hard_step": param.step, "actual": spec.step},
        )
    for value in spec.numbers():
        if not on_step_grid(value, param.hard_min, param.step):
            raise InvalidGrid(
                f"{where} must lie on the grid {param.hard_min} + k * {param.step}, got {value}",
                details={**fields, "hard_step": param.step, "actual": value},
            )


def on_step_grid(value: Number, origin: Number, step: Number) -> bool:
    """Whether `value` is `origin + k * step`, within 1e-9 of the ratio."""
    ratio = (value - origin) / step
    return abs(ratio - round(ratio)) <= GRID_TOLERANCE


def source_values(definition: Definition, spec: AxisSpec) -> tuple[str, ...]:
    """Price series of the `source` axis, trimmed and lower-cased. Raises: InvalidGrid."""
    where = f"{definition.indicator_id}.source"
    allowed = ", ".join(sorted(definition.sources))
    fields = {
        "indicator_id": definition.indicator_id,
        "axis": "source",
        "allowed": sorted(definition.sources),
    }
    names: list[str] = []
    for value in materialised(spec):
        name = value.strip().lower() if isinstance(value, str) else None
        if name is None or name not in definition.sources:
            raise InvalidGrid(
                f"{where} must be one of {allowed}, got {value!r}",
                details={**fields, "actual": value},
            )
        if name in names:
            raise InvalidGrid(f"{where} holds {name!r} twice", details={**fields, "actual": value})
        names.append(name)
    return tuple(names)


def signal_values(
    indicator_id: str, family: str, param: RuleParam, spec: AxisSpec
) -> tuple[Number, ...]:
    """Values of one rule parameter: ints where the kind is int and the value whole, else floats.

    Rule parameters have no bounds, only lags must be whole and not zero. Raises: InvalidGrid.
    """
    where = f"{indicator_id}.{param.name}"
    fields = {"indicator_id": indicator_id, "param": param.name}
    values: list[Number] = []
    for value in numeric(spec, f"{where}: signal values must be numeric"):
        cast = integral(value) if param.kind == "int" else float(value)
        if family == "delta_sign":
            if not isinstance(cast, int):
                raise InvalidGrid(
                    f"{where}: lag must be an integer number of bars, got {value}",
                    details={**fields, "actual": value},
                )
            if cast == 0:
                raise InvalidGrid(
                    f"{where}: absolute value must be > 0, got {value}",
                    details={**fields, "actual": value},
                )
        values.append(cast)
    return tuple(values)
