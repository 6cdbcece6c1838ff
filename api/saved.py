"""Saved mode: a back-test of a stored strategy, as the template that says the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.errors import Forbidden, NotFound, StorageFailed, invalid
from api.users import User
from cluster.jobs.job import Saved
from compute.indicator_requests import parsed
from compute.request import (
    MODE_CONFLICT,
    SAVED_ONLY,
    STRATEGY_GIVEN,
    Direction,
    ExecutionBlock,
    Model,
    RiskBlock,
    Search,
    Signals,
    Sizing,
    strategy_in,
)
from live.strategies.template import strategy_template

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredStrategy:
    """A strategy that is not deleted: whose it is, and its specification as stored."""

    strategy_id: UUID
    user_id: UUID
    spec: Mapping[str, Any]
    spec_hash: str


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
    """A request as the template it means, and the strategy that this was made of, if one was."""

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

    A stored strategy brings its own warm-up, unless the request has one.

    Raises: InvalidRequest, NotFound, Forbidden, StorageFailed.
    """
    if not isinstance(body, Mapping):
        message = f"a request is a JSON object, got {type(body).__name__}"
        raise invalid(message, "object_type", "body")
    if strategy_in(body) is not None:
        raise invalid(STRATEGY_GIVEN, "mode_conflict", "body")
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
    if rest.get("warmup_bars") is None:
        rest["warmup_bars"] = strategy.spec.get("warmup_bars")
    return Asked({**rest, "template": template}, strategy, overrides)
