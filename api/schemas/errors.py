"""The error envelope as a schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """A part of a response."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Answer):
    """One error."""

    code: str = Field(
        description="Class of the error: validation_error, not_found, forbidden, conflict,"
        " unauthorized, method_not_allowed, payload_too_large, unsupported_media_type,"
        " too_many_requests, unavailable or unexpected_error.",
        examples=["validation_error"],
    )
    message: str = Field(
        min_length=1, description="What is wrong and what helps.", examples=["Validation failed"]
    )
    details: dict[str, Any] = Field(
        description="`errors` lists the faults of a request, `{path, code, message}` each, sorted;"
        " `error` is the specific code of a guard or limit, with its numbers beside it.",
        examples=[{"errors": [{"path": "body.top_k", "code": "required", "message": "…"}]}],
    )


class ErrorEnvelope(Answer):
    """Every error of this API has this form."""

    error: ErrorBody = Field(description="The error.")
