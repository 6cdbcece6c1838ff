"""The service's description of itself: request bodies, examples, and the document as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.envelope import errors
from api.schemas.errors import ErrorEnvelope

ENVELOPE: Final = ErrorEnvelope.__name__
_REF: Final = "#/components/schemas/{model}"
_BODIES: Final[dict[str, type[BaseModel]]] = {}

TAGS: Final = [
    {"name": "backtests", "description": "Searches over grids of strategy parameters."},
    {"name": "jobs", "description": "Searches that outlive their request."},
    {"name": "strategies", "description": "Variants that are kept, and their runs."},
    {"name": "indicators", "description": "What there is to search over."},
    {"name": "market-data", "description": "Markets, instruments and candles of the store."},
    {"name": "users", "description": "Logins, access tokens, and all that belongs to a user."},
    {"name": "two-factor", "description": "The second factor of a user, and its recovery."},
    {"name": "exchange-keys", "description": "Keys of exchanges, stored encrypted."},
    {"name": "service", "description": "The service itself."},
]


def body_of(*models: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route whose JSON body is one of `models`.

    `examples` are bodies by a name; every one must work over the candles that it names.
    """
    for model in models:
        known = _BODIES.setdefault(model.__name__, model)
        assert known is model, f"two request models are called {model.__name__}"
    refs = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    shown = {name: {"summary": name, "value": value} for name, value in examples.items()}
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    content = {"application/json": {"schema": schema, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}


def event_stream(description: str, kinds: Sequence[str], ids: str = "^[0-9]+$") -> dict[str, Any]:
    """The response that is a stream of server-sent events of these kinds, each with JSON."""
    about: dict[str, Any] = {
        "id": {"type": "string", "pattern": ids, "description": "What to go on after."},
        "event": {"type": "string", "enum": list(kinds), "description": "Of which kind it is."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "required": ["at"],
                "properties": {"at": {"type": "string", "description": "UTC; when it happened."}},
            },
            "description": "What happened.",
        },
    }
    item = {"type": "object", "required": list(about), "properties": about}
    return {"description": description, "content": {"text/event-stream": {"itemSchema": item}}}


def describe(app: FastAPI) -> None:
    """Gives `app` a document that has the request models, too."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary="Finds trading-strategy parameters by brute force, honestly and fast.",
        description="Every error has one form, `ErrorEnvelope`. Unknown fields are refused. A user "
        "is known by the cookie of a login, a program by `Authorization: Bearer` and an access "
        "token.",
        routes=app.routes,
        tags=TAGS,
    )
    _, bodies = models_json_schema(
        [(model, "validation") for model in _BODIES.values()], ref_template=_REF
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in bodies["$defs"].items():
        assert schemas.get(name, schema) == schema, f"two models are called {name}"
        schemas[name] = schema
    _one_form(found)
    found["components"]["schemas"] = {
        name: schemas[name] for name in sorted(_reached(found["paths"], schemas))
    }
    return found


def _one_form(found: dict[str, Any]) -> None:
    """Puts the envelope where the framework announces errors of a form that it never sends."""
    for methods in found["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if "HTTPValidationError" in str(response):
                    operation["responses"][status] = errors("validation_error")[422] | {
                        "content": {
                            "application/json": {"schema": {"$ref": _REF.format(model=ENVELOPE)}}
                        }
                    }
                    del operation["responses"][status]["model"]


def _reached(node: Any, schemas: Mapping[str, Any]) -> set[str]:
    """Names of the schemas that `node` refers to, and those refer to."""
    reached: set[str] = set()
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name in schemas and name not in reached:
                reached.add(name)
                waiting.append(schemas[name])
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return reached
