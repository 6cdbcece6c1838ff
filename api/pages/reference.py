"""The description of the API as its page shows it, made of the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.pages.commands import curl

Record = Mapping[str, Any]

UNSAID: Final = "x-roehub-user"
"""A header of development that every operation takes; the page says it once."""
HERE: Final = "https://here.invalid"
"""The service in calls, until it is known where it is asked at."""
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_LIMITS: Final = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
    "default": "{} without it",
}

Type = list[tuple[str, str]]
"""A type in pieces: (text, name of the schema that it is, else empty)."""


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a member of an object."""

    name: str
    type: Type
    description: str
    is_required: bool
    place: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers with a status."""

    status: str
    description: str
    media: str
    type: Type


@dataclass(frozen=True, slots=True)
class Operation:
    """What may be done at a path; `calls` are examples as commands, by what they do."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[Field]
    body: Type
    answers: Sequence[Answer]
    calls: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Schema:
    """An object that is sent or answered with, or a choice where it has no members."""

    name: str
    description: str
    fields: Sequence[Field]
    type: Type


@dataclass(frozen=True, slots=True)
class Reference:
    """The whole: (name, what it is about, its operations), and the schemas that they name."""

    title: str
    version: str
    description: str
    groups: Sequence[tuple[str, str, Sequence[Operation]]]
    schemas: Sequence[Schema]


def reference(document: Record) -> Reference:
    """The `Reference` of a document; its calls are of the service at `HERE`."""
    by_tag: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                found = _operation(method, path, methods[method])
                by_tag.setdefault(methods[method]["tags"][0], []).append(found)
    abouts = {tag["name"]: tag["description"] for tag in document["tags"]}
    schemas = document["components"]["schemas"]
    info = document["info"]
    return Reference(
        info["title"],
        info["version"],
        info["description"],
        [(name, abouts.get(name, ""), found) for name, found in by_tag.items() if found],
        [_schema(name, schema) for name, schema in schemas.items()],
    )


def _operation(method: str, path: str, found: Record) -> Operation:
    body = found.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = {name: one["value"] for name, one in body.get("examples", {}).items()}
    return Operation(
        found["operationId"],
        method.upper(),
        path,
        found["summary"],
        found.get("description", ""),
        [_parameter(one) for one in found.get("parameters", ()) if one["name"] != UNSAID],
        type_of(body["schema"]) if body else [],
        [answer for status, one in found["responses"].items() for answer in _answers(status, one)],
        [(name, curl(method, f"{HERE}/api{path}", value)) for name, value in examples.items()]
        or [("", curl(method, f"{HERE}/api{path}"))],
    )


def _parameter(found: Record) -> Field:
    schema = found["schema"]
    about = found.get("description") or schema.get("description", "")
    required = found.get("required", False)
    given = {**schema, "anyOf": [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]}
    kind = type_of(given if given["anyOf"] else schema)
    return Field(found["name"], kind, _about(about, schema), required, found["in"])


def _answers(status: str, found: Record) -> Iterator[Answer]:
    media = found.get("content") or {"": {}}
    for name, content in media.items():
        schema = content.get("schema") or content.get("itemSchema") or {}
        about = found["description"].replace("Successful Response", "Done.")
        yield Answer(status, about, name, type_of(schema) if schema else [])


def _schema(name: str, found: Record) -> Schema:
    required = found.get("required", ())
    fields = [
        Field(one, type_of(schema), _about(schema.get("description", ""), schema), one in required)
        for one, schema in found.get("properties", {}).items()
    ]
    return Schema(name, found.get("description", ""), fields, [] if fields else type_of(found))


def type_of(schema: Record) -> Type:
    """What a value of a schema is."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [(name, name)]
    if "const" in schema:
        return [(json.dumps(schema["const"]), "")]
    if "enum" in schema:
        return [(" or ".join(json.dumps(one) for one in schema["enum"]), "")]
    for kind, word in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        if kind in schema:
            return _joined([type_of(one) for one in schema[kind]], word)
    if schema.get("type") == "array":
        return [("list of ", ""), *type_of(schema.get("items", {}))]
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return [("object by name of ", ""), *type_of(schema["additionalProperties"])]
    kind = schema.get("type", "any value")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return [(f"{text} ({schema['format']})" if "format" in schema else text, "")]


def _joined(types: Sequence[Type], word: str) -> Type:
    found: Type = []
    for one in types:
        found += ([(word, "")] if found else []) + one
    return found


def _about(text: str, schema: Record) -> str:
    """A description with the limits of its values."""
    parts = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    whole = {**(parts[0] if len(parts) == 1 else {}), **schema}
    limits = [
        words.format(json.dumps(whole[name]) if name == "default" else whole[name])
        for name, words in _LIMITS.items()
        if whole.get(name) is not None
    ]
    said = re.sub(r"\s+", " ", text).strip()
    return f"{said} ({', '.join(limits)})" if limits else said
