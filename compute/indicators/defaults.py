"""Deployment defaults of indicators: the axes that a request may leave out.

They come from a decoded `indicators.yaml` and may only narrow the definitions. `indicator_defaults`
checks the shape and imports no indicator; `check_defaults` compares with the definitions and is for
the start of a service.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compute import axes
from compute.axes import AxisSpec, Explicit, InvalidAxis, Range, axis_spec
from compute.errors import InvalidGrid, InvalidInput
from compute.indicators.definition import SOURCE, Definition, Param, RuleParam
from compute.indicators.registry import definition, ids

SCHEMA_VERSION = 1
BOUND_SLACK = 1e-9  # float defaults only; requests have none


class InvalidDefaults(InvalidInput):
    """A default outside its definition; every part of the finding is a field."""

    def __init__(
        self,
        *,
        config_path: str,
        yaml_path: str,
        indicator_id: str,
        field_name: str,
        expected: str,
        actual: object,
    ) -> None:
        super().__init__(
            f"{config_path}: {yaml_path} must be {expected}, got {actual!r}",
            details={
                "config_path": config_path,
                "yaml_path": yaml_path,
                "indicator_id": indicator_id,
                "field_name": field_name,
                "expected": expected,
                "actual": actual,
            },
        )


@dataclass(frozen=True, slots=True)
class IndicatorDefaults:
    """Default axes of one indicator; `signals` are rule parameters of its primary output."""

    indicator_id: str
    source: AxisSpec | None = None
    params: Mapping[str, AxisSpec] = field(default_factory=dict)
    signals: Mapping[str, AxisSpec] = field(default_factory=dict)
    config_path: str = "indicators.yaml"

    @property
    def variants(self) -> int:
        """Variants of a request that names the indicator and nothing else."""
        specs = [self.source, *self.params.values(), *self.signals.values()]
        return math.prod(len(axes.materialised(spec)) for spec in specs if spec is not None)


def indicator_defaults(
    document: object, config_path: str = "indicators.yaml"
) -> dict[str, IndicatorDefaults]:
    """Defaults by indicator id from a decoded file.

    Raises: InvalidInput that names the file and the place in it for a wrong shape;
    InvalidDefaults for another schema version or an unknown id.
    """
    top = _mapping(document, config_path, "the document")
    version = top.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise InvalidInput(f"{config_path}: schema_version must be an integer, got {version!r}")
    if version != SCHEMA_VERSION:
        raise InvalidDefaults(
            config_path=config_path,
            yaml_path="schema_version",
            indicator_id="",
            field_name="schema_version",
            expected=str(SCHEMA_VERSION),
            actual=version,
        )
    found: dict[str, IndicatorDefaults] = {}
    for key, block in _mapping(top.get("defaults"), config_path, "defaults").items():
        if not isinstance(key, str) or not (name := key.strip().lower()):
            raise InvalidInput(f"{config_path}: an id under defaults must be a text, got {key!r}")
        if name in found:
            raise InvalidInput(f"{config_path}: defaults.{name} is given more than once")
        if name not in ids():
            raise InvalidDefaults(
                config_path=config_path,
                yaml_path=f"defaults.{name}",
                indicator_id=name,
                field_name="indicator_id",
                expected="a known indicator id",
                actual=name,
            )
        found[name] = _block(name, block, config_path)
    return found


def _block(name: str, raw: object, config_path: str) -> IndicatorDefaults:
    where = f"defaults.{name}"
    block = _mapping(raw, config_path, where)
    inputs = _specs(block.get("inputs"), config_path, f"{where}.inputs")
    for key in inputs:
        if key != SOURCE:
            raise InvalidDefaults(
                config_path=config_path,
                yaml_path=f"{where}.inputs.{key}",
                indicator_id=name,
                field_name=key,
                expected="the input source",
                actual=key,
            )
    return IndicatorDefaults(
        name,
        inputs.get(SOURCE),
        _specs(block.get("params"), config_path, f"{where}.params"),
        _signals(block.get("signals"), config_path, f"{where}.signals"),
        config_path,
    )


def _signals(raw: object, config_path: str, where: str) -> dict[str, AxisSpec]:
    if raw is None:
        return {}
    version = _mapping(raw, config_path, where).get("v1")
    if version is None:
        raise InvalidInput(f"{config_path}: {where} must hold v1")
    params = _mapping(version, config_path, f"{where}.v1").get("params")
    return _specs(params, config_path, f"{where}.v1.params", scalars=True)


def _specs(
    raw: object, config_path: str, where: str, *, scalars: bool = False
) -> dict[str, AxisSpec]:
    """Axis specs by name; a bare scalar is a one-value axis where `scalars` are allowed."""
    if raw is None:
        return {}
    specs: dict[str, AxisSpec] = {}
    for key, value in _mapping(raw, config_path, where).items():
        if not isinstance(key, str) or not (name := key.strip().lower()):
            raise InvalidInput(f"{config_path}: {where} needs names, got {key!r}")
        if scalars and not isinstance(value, Mapping):
            value = {"mode": "explicit", "values": [value]}
        try:
            specs[name] = axis_spec(value)
        except InvalidAxis as error:
            at = f".{error.at}" if error.at else ""
            raise InvalidInput(f"{config_path}: {where}.{name}{at}: {error.message}") from None
    return specs


def _mapping(raw: object, config_path: str, where: str) -> Mapping[Any, Any]:
    if not isinstance(raw, Mapping):
        raise InvalidInput(f"{config_path}: {where} must be a mapping, got {type(raw).__name__}")
    return raw


def check_defaults(defaults: Iterable[IndicatorDefaults]) -> None:
    """Compares each block with its definition. Raises: InvalidDefaults."""
    for block in defaults:
        check_default(block, definition(block.indicator_id))


def check_default(block: IndicatorDefaults, known: Definition) -> None:
    """Compares one block with its definition.

    Unlike in a request, explicit values are held to the step grid too. Raises: InvalidDefaults.
    """
    place = _Place(block, f"defaults.{block.indicator_id}")
    if block.source is not None:
        _check_source(place.at("inputs", SOURCE), block.source, known)
    params = {param.name: param for param in known.params}
    for name, spec in block.params.items():
        at = place.at("params", name)
        if name not in params:
            raise at.wrong(f"one of {', '.join(params) or 'no params'}", name)
        _check_param(at, spec, params[name])
    rules = [output.rule for output in known.outputs if output.rule is not None]
    for name, spec in block.signals.items():
        at = place.at("signals.v1.params", name)
        matching = [(rule, p) for rule in rules for p in rule.params if p.name == name]
        if not matching:
            raise at.wrong("a parameter of the indicator's rule", name)
        for rule, param in matching:
            _check_signal(at, block.indicator_id, rule.family, param, spec)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file a value stands."""

    block: IndicatorDefaults
    yaml_path: str
    name: str = ""

    def at(self, section: str, name: str) -> _Place:
        return _Place(self.block, f"{self.yaml_path}.{section}.{name}", name)

    def within(self, part: str) -> _Place:
        return _Place(self.block, f"{self.yaml_path}.{part}", self.name)

    def wrong(self, expected: str, actual: object) -> InvalidDefaults:
        return InvalidDefaults(
            config_path=self.block.config_path,
            yaml_path=self.yaml_path,
            indicator_id=self.block.indicator_id,
            field_name=self.name,
            expected=expected,
            actual=actual,
        )


def _check_source(place: _Place, spec: AxisSpec, known: Definition) -> None:
    if not known.sources:
        raise place.wrong("absent, the indicator has no source axis", SOURCE)
    if not isinstance(spec, Explicit):
        raise place.within("mode").wrong("explicit", "range")
    try:
        axes.source_values(known, spec)
    except InvalidGrid as error:
        expected = f"unique names out of {', '.join(sorted(known.sources))}"
        raise place.within("values").wrong(expected, error.details["actual"]) from None


def _check_param(place: _Place, spec: AxisSpec, param: Param) -> None:
    if isinstance(spec, Explicit):
        for value in spec.values:
            _check_number(place.within("values"), value, param)
        return
    _check_number(place.within("start"), spec.start, param)
    _check_number(place.within("stop_incl"), spec.stop_incl, param)
    step = place.within("step")
    _check_kind(step, spec.step, param)
    if not axes.on_step_grid(spec.step, 0, param.step) or spec.step < param.step / 2:
        raise step.wrong(f"a multiple of {param.step}", spec.step)


def _check_number(place: _Place, value: object, param: Param) -> None:
    number = _check_kind(place, value, param)
    slack = BOUND_SLACK if param.kind == "float" else 0
    if not param.hard_min - slack <= number <= param.hard_max + slack:
        raise place.wrong(f"in {param.hard_min}..{param.hard_max}", value)
    if not axes.on_step_grid(number, param.hard_min, param.step):
        raise place.wrong(f"on the grid {param.hard_min} + k * {param.step}", value)


def _check_kind(place: _Place, value: object, param: Param) -> int | float:
    if param.kind == "int":
        if isinstance(value, int):
            return value
        raise place.wrong("an integer", value)
    if isinstance(value, int | float):
        return value
    raise place.wrong("a number", value)


def _check_signal(
    place: _Place, indicator_id: str, family: str, param: RuleParam, spec: AxisSpec
) -> None:
    try:
        axes.signal_values(indicator_id, family, param, spec)
    except InvalidGrid as error:
        expected = "a non-zero integer" if family == "delta_sign" else "a number"
        raise place.wrong(expected, _told(spec, error)) from None


def _told(spec: Explicit | Range, error: InvalidGrid) -> object:
    return error.details.get("actual", spec.spec())
