"""What a schema refused, in words for whoever wrote the request."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any, Final, get_args

from pydantic import AliasChoices, BaseModel, ValidationError

_SHOWN: Final = 60

# Our words for pydantic's; `{…}` are the values of its own context.
_WORDS: Final = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "finite_number": "must be a finite number",
    "greater_than": "must be > {gt:g}",
    "greater_than_equal": "must be >= {ge:g}",
    "less_than": "must be < {lt:g}",
    "less_than_equal": "must be <= {le:g}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
}


def schema_faults(error: ValidationError, model: type[BaseModel]) -> list[dict[str, str]]:
    """What `model` refused of a body: `{path, code, message}` of each fault.

    The message says what was sent; for an unknown field it names the nearest ones, else all.
    """
    faults: list[dict[str, str]] = []
    for fault in error.errors(include_url=False):
        kind, context = fault["type"], fault.get("ctx", {})
        at = context.get("at", "")
        steps = ["body", *map(str, fault["loc"]), *([at] if at else [])]
        if "reason" in context:  # a check of ours, which has said it all
            message = fault["msg"]
        elif kind == "extra_forbidden":
            message = _unknown(model, fault["loc"])
        elif kind == "missing":
            message = _WORDS[kind]
        else:
            said = _WORDS[kind].format(**context) if kind in _WORDS else fault["msg"]
            message = f"{said} (got {shown(fault['input'])})"
        code = "required" if kind == "missing" else kind
        faults.append({"path": ".".join(steps), "code": code, "message": message})
    return faults


def shown(value: object) -> str:
    """A value of a request as one short text, written as in JSON."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _unknown(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """What to say of a field that the object at `place` does not have."""
    owner: Any = model
    for step in place[:-1]:
        owner = _within(owner, step)
    fields = owner.model_fields
    other = next((name for name in fields if str(place[-1]) in _names(owner, name)), None)
    if other is not None:
        return f"is another name of a field that is given too; keep one of {_listed(owner, other)}"
    every = [name for field in fields for name in _names(owner, field)]
    near = difflib.get_close_matches(str(place[-1]).strip().lower(), every, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(fields)}"
    return f"is an unknown field; {hint}"


def _listed(owner: type[BaseModel], field: str) -> str:
    return ", ".join(_names(owner, field))


def _names(owner: type[BaseModel], field: str) -> list[str]:
    """The names that one field may be sent under."""
    alias = owner.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field]


def _within(owner: Any, step: int | str) -> Any:
    """The model that holds what lies at `step` of `owner`; an item's model stands for its list."""
    if isinstance(step, int):
        return owner
    field = next(name for name in owner.model_fields if step in _names(owner, name))
    return _model(owner.model_fields[field].annotation)


def _model(annotation: Any) -> Any:
    """The schema inside an annotation, through optionals and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model(part))), None)
