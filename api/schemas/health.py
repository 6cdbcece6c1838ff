"""What the service says about itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.errors import Answer


class Health(Answer):
    """The process lives."""

    status: Literal["ok"] = Field(description="Always ok.")


class Ready(Answer):
    """Whether the parts can do their work."""

    status: Literal["ready", "not ready"] = Field(description="ready when every part is ok.")
    checks: dict[str, str] = Field(description="By part: ok, or what keeps it from working.")
