"""Saved mode: a back-test of a stored strategy, as the template that says the same."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.errors import Forbidden, NotFound, StorageFailed, invalid
from api.users import User
from cluster.jobs.job import Saved
from compute.indicator_requests import parsed
from compute.keys import canonical_json
from compute.request import (
    MODE_CONFLICT,
    SAVED_ONLY,
    Direction,
    ExecutionBlock,
    Model,
    RiskBlock,
    Search,
    Signals,
    Sizing,
)

Record = dict[str, Any]
_NAMES: Final = ("indicator_id", "id", "kind", "name")


@dataclass(frozen=True, slots=True)
class StoredStrategy:
    """A strategy that is not deleted: whose it is, and its specification as stored."""

    strategy_id: UUID
    user_id: UUID
    spec: Mapping[str, Any]

    @property
    def spec_hash(self) -> str:
        """Hash of the specification."""
        from hashlib import sha256

        return sha256(canonical_json(dict(self.spec))).hexdigest()


Strategies = Callable[[UUID], Awaitable[StoredStrategy | None]]
"""The strategy of an id, None where there is none or it was deleted."""


async def no_strategies(strategy_id: UUID) -> StoredStrategy | None:
    """The strategies of a service that keeps none."""
    return None


def _uuid(raw: object) -> UUID:
    try:
        return UUID(raw) if isinstance(raw, str) else UUID(int=-1)
    except ValueError:
        raise PydanticCustomError("uuid_parsing", "must be a UUID") from None


StrategyId = Annotated[
    UUID, PlainValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})
]


class Overrides(Model):
    """What a run of a stored strategy does differently; parameters of indicators stay."""

    direction_mode: Direction | None = Field(None, description="Replaces the stored one.")
    sizing_mode: Sizing | None = Field(None, description="Replaces the stored one.")
    execution: ExecutionBlock | None = Field(None, description="Merged value by value.")
    risk_grid: RiskBlock | None = Field(None, description="Replaces the stored stops wholly.")
    signal_grids: Signals | None = Field(None, description="Merged parameter by parameter.")


class SavedFields(Model):
    """A stored strategy, and what is done differently."""

    strategy_id: StrategyId = Field(description="The strategy to run; it must be the caller's.")
    overrides: Overrides | None = Field(None, description="What this run does differently.")


class SavedRequest(Search, SavedFields):
    """A back-test of a stored strategy."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the template it means, and what says which request it was."""

    body: Record
    strategy: StoredStrategy | None = None
    overrides: Record = field(default_factory=dict)

    @property
    def saved(self) -> Saved | None:
        """The stored strategy as a job keeps it; None for a template."""
        if self.strategy is None:
            return None
        return Saved(
            str(self.strategy.strategy_id),
            dict(self.strategy.spec),
            self.strategy.spec_hash,
            self.overrides,
        )

    @property
    def identity(self) -> Record:
        """The fields of the answer that say so; a template is known by its own hash."""
        if self.strategy is None:
            return {}
        return {
            "mode": "saved",
            "strategy_id": str(self.strategy.strategy_id),
            "spec_hash": self.strategy.spec_hash,
            "grid_request_hash": None,
        }


async def asked(
    body: Any, user: User, strategies: Strategies, model: type[SavedFields] = SavedRequest
) -> Asked:
    """What a decoded request asks for, in either mode; `model` is that of saved mode.

    Raises: InvalidRequest, NotFound, Forbidden, StorageFailed.
    """
    if not isinstance(body, Mapping):
        message = f"a request is a JSON object, got {type(body).__name__}"
        raise invalid(message, "object_type", "body")
    if body.get("strategy_id") is None:
        if body.get("template") is None:
            raise invalid(MODE_CONFLICT, "mode_conflict", "body.strategy_id", "body.template")
        if body.get("overrides") is not None:
            raise invalid(SAVED_ONLY, "mode_conflict", "body.overrides")
        return Asked(dict(body))
    if body.get("template") is not None:
        raise invalid(MODE_CONFLICT, "mode_conflict", "body.strategy_id", "body.template")
    request = parsed(model, {k: v for k, v in body.items() if k != "template"})
    details = {"strategy_id": str(request.strategy_id)}
    strategy = await strategies(request.strategy_id)
    if strategy is None:
        raise NotFound("there is no such strategy, or it was deleted", details=details)
    if strategy.user_id != user.user_id:
        raise Forbidden("the strategy belongs to somebody else", details=details)
    if not strategy.spec:
        raise invalid("the strategy has no specification", "required", "body.strategy_id")
    overrides = dict(body.get("overrides") or {})
    try:
        template = strategy_template(strategy.spec, overrides)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StorageFailed(
            f"strategy {request.strategy_id} cannot be mapped to a back-test: {error!r}"
        ) from error
    rest = {k: v for k, v in body.items() if k not in ("strategy_id", "overrides")}
    return Asked({**rest, "template": template}, strategy, overrides)


def strategy_template(spec: Mapping[str, Any], overrides: Mapping[str, Any]) -> Record:
    """The template of a stored specification with `overrides`, every value an axis of its own.

    Raises: KeyError, TypeError or ValueError for what is no strategy.
    """
    signals = _merged(spec.get("signal_grids") or {}, overrides.get("signal_grids") or {})
    execution = {**(spec.get("execution") or {}), **_given(overrides.get("execution"))}
    risk = overrides.get("risk_grid") or spec.get("risk_grid") or _risk(spec.get("risk"))
    template: Record = {
        "instrument_id": {name: spec["instrument_id"][name] for name in ("market_id", "symbol")},
        "timeframe": spec["timeframe"],
        "indicator_grids": [_block(entry) for entry in spec["indicators"]],
        "direction_mode": overrides.get("direction_mode")
        or spec.get("direction_mode", "long-short"),
        "sizing_mode": overrides.get("sizing_mode") or spec.get("sizing_mode", "all_in"),
    }
    for name, value in (("execution", execution), ("risk_grid", risk), ("signal_grids", signals)):
        if value:
            template[name] = copy.deepcopy(value)
    return template


def _block(entry: Mapping[str, Any]) -> Record:
    name = next(entry[key] for key in _NAMES if str(entry.get(key) or "").strip())
    block: Record = {
        "indicator_id": name,
        "params": {key: _one(value) for key, value in (entry.get("params") or {}).items()},
    }
    source = (entry.get("inputs") or {}).get("source")
    if source is not None:
        block["source"] = _one(source)
    if entry.get("output") is not None:
        block["output"] = entry["output"]
    return block


def _one(value: Any) -> Record:
    return {"mode": "explicit", "values": [value]}


def _given(block: Mapping[str, Any] | None) -> Record:
    return {name: value for name, value in (block or {}).items() if value is not None}


def _risk(stored: Mapping[str, Any] | None) -> Record:
    return {
        name: stored[name]
        for name in ("sl_enabled", "tp_enabled", "sl_pct", "tp_pct")
        if stored and stored.get(name) is not None
    }


def _merged(
    stored: Mapping[str, Mapping[str, Any]], sent: Mapping[str, Mapping[str, Any]]
) -> Record:
    names = {*stored, *sent}
    return {name: {**(stored.get(name) or {}), **(sent.get(name) or {})} for name in sorted(names)}
