"""What the service says about itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.errors import Answer


class Health(Answer):
    """The process lives."""

    status: Literal["ok"] = Field(description="Always ok.")
