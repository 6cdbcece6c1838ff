"""The registry of indicators as the service lists it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from compute.indicator_grids import proposed_axis
from compute.indicators.defaults import IndicatorDefaults
from compute.indicators.definition import SOURCE, Definition, Output, Param
from compute.indicators.registry import definition, ids
from compute.tensor import SCHEMA_VERSION, TIME_MAJOR

Record = dict[str, Any]
_NO_VALUES: Final = None  # no shipped parameter is an enumeration


def registry_record(defaults: Mapping[str, IndicatorDefaults]) -> Record:
    """All indicators, by id, with this deployment's default axes; imports every one of them."""
    return {
        "schema_version": SCHEMA_VERSION,
        "items": [_item(definition(name), defaults.get(name)) for name in ids()],
    }


def _item(known: Definition, given: IndicatorDefaults | None) -> Record:
    given = given or IndicatorDefaults(known.indicator_id)
    source = given.source
    inputs = [
        {
            "name": SOURCE,
            "allowed_values": sorted(known.sources),
            "default": None if source is None else source.spec(),
        }
    ]
    return {
        "indicator_id": known.indicator_id,
        "group": known.group,
        "title": known.title,
        "required_inputs": sorted(known.inputs),
        "inputs": inputs if known.sources else [],
        "params": [
            _param(param, given) for param in sorted(known.params, key=lambda param: param.name)
        ],
        "output_names": [output.name for output in known.outputs],
        "primary_output": known.primary,
        "axis_order": list(known.axes),
        "signal": _signal(known.output(), given),
        "outputs": [
            {
                "name": output.name,
                "family": None if output.rule is None else output.rule.family,
                "meaning": output.meaning,
                "axes": list(output.axes),
            }
            for output in known.outputs
        ],
        "default_layout": TIME_MAJOR,
    }


def _param(param: Param, given: IndicatorDefaults) -> Record:
    spec = given.params.get(param.name)
    return {
        "name": param.name,
        "kind": param.kind,
        "hard_min": param.hard_min,
        "hard_max": param.hard_max,
        "step": param.step,
        "enum_values": _NO_VALUES,
        "default": None if spec is None else spec.spec(),
    }


def _signal(primary: Output, given: IndicatorDefaults) -> Record | None:
    """The voting rule of the primary output, None where it cannot vote."""
    rule = primary.rule
    if rule is None:
        return None
    params: list[Record] = []
    for param in rule.params:
        spec = given.signals.get(param.name)
        params.append(
            {
                "name": param.name,
                "kind": param.kind,
                "proposed": proposed_axis(param).spec(),
                "default": None if spec is None else spec.spec(),
            }
        )
    return {"family": rule.family, "params": params}
