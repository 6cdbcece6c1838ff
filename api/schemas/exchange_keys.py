"""Exchange keys as the service takes and shows them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel, SecretStr

from api.schemas.errors import Answer
from compute.request import Model

Exchange = Literal["binance", "bybit"]
MarketType = Literal["spot", "futures"]
Permissions = Literal["read", "trade"]
_TIME = "2026-02-22T18:00:00Z"


class ExchangeKeyRequest(Model):
    """A key to be stored. Outer white space of texts is removed."""

    exchange_name: Exchange = Field(description="Where the key is from.")
    market_type: MarketType = Field(description="The market that it is for.")
    permissions: Permissions = Field(
        description="What it may do at the exchange, as its owner says; nothing checks it."
    )
    label: str | None = Field(
        None, max_length=100, description="A name for it; blank is none.", examples=["spot, read"]
    )
    api_key: SecretStr = Field(
        max_length=256, description="The public half. Only its last four characters are ever shown."
    )
    api_secret: SecretStr = Field(
        max_length=4096, description="The secret half, or a private key. Never shown again."
    )
    passphrase: SecretStr | None = Field(
        None, max_length=256, description="Where the exchange asks for one. Never shown again."
    )


class ExchangeKeyBody(Answer):
    """A stored key."""

    key_id: str = Field(
        description="UUID of the key.", examples=["00000000-0000-4000-8000-000000000932"]
    )
    exchange_name: Exchange = Field(description="Where the key is from.")
    market_type: MarketType = Field(description="The market that it is for.")
    label: str | None = Field(description="Its name, if it has one.")
    permissions: Permissions = Field(description="What it may do at the exchange.")
    api_key: str = Field(
        description="`****` and the last four characters; nothing more of one that has only four.",
        examples=["****"],
    )
    created_at: str = Field(description="UTC.", examples=[_TIME])
    updated_at: str = Field(description="UTC.", examples=[_TIME])


class ExchangeKeysBody(RootModel[list[ExchangeKeyBody]]):
    """The active keys, oldest first."""
