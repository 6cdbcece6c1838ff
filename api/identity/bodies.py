"""Request bodies of users, checked by their models."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], body: Any) -> M:
    """The model of a decoded body; no message repeats what was sent. Raises: 422."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        items = [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        raise RequestValidationError(items) from None
