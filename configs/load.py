"""Configuration files: which one is used, and the settings dataclasses it fills.

Three layers, the later wins: the dataclass's own defaults, the environment's file, overrides from
flags. Every fault is an `InvalidConfig` that names the file and the place in it. Only composition
roots import this module; it knows nothing of the packages whose dataclasses it fills.

    file = config("backtest")
    limits = file.settings(Limits, {"backtest.guards.max_variants_per_compute": 10**9})
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

ENVIRONMENTS = ("dev", "test", "prod")
_DIRECTORY = Path(__file__).parent
_T = TypeVar("_T")

# Per file: the keys of the top level (the first holds the version) and all its sections.
_FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "backtest": (
        ("version", "backtest"),
        (
            "backtest",
            "backtest.ranking",
            "backtest.guards",
            "backtest.cpu",
            "backtest.search",
            "backtest.sync",
            "backtest.api",
            "backtest.jobs",
            "backtest.reporting",
            "backtest.execution",
        ),
    ),
    "indicators": (("schema_version", "defaults"), ()),
    "market_data": (("version", "market_data"), ("market_data",)),
    "strategy": (
        ("version", "strategy"),
        (
            "strategy",
            "strategy.api",
            "strategy.live_worker",
            "strategy.live_worker.redis_streams",
            "strategy.live_worker.repair",
            "strategy.realtime_output",
            "strategy.telegram",
        ),
    ),
}


class InvalidConfig(ValueError):
    """A configuration that cannot be used; the message names the file and the place in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigFile:
    """A parsed file; sections are filled into dataclasses by `settings`."""

    name: str
    path: Path
    document: dict[str, Any]

    def settings(self, target: type[_T], overrides: Mapping[str, object] | None = None) -> _T:
        """An instance of a dataclass that lists its sections in a class variable `SECTIONS`.

        Keys of those sections are the dataclass's fields, each of which must be in one of them or
        have a default. `PICKED` sections belong to another dataclass: only known keys are read.
        A field may itself be a dataclass, or a tuple of them: a mapping, or a list of mappings.
        `overrides` are values by dotted path, None counting as absent.
        """
        owned: Sequence[str] = cast(Any, target).SECTIONS
        picked: Sequence[str] = getattr(target, "PICKED", ())
        fields, hints = _fields(target)
        self._refuse_strays(target, overrides or {}, (*owned, *picked), fields)
        values: dict[str, Any] = {}
        places: dict[str, str] = {}
        for section in (*owned, *picked):
            for key, value in self._entries(section, overrides or {}).items():
                place = f"{section}.{key}"
                if key not in fields:
                    if section in owned:
                        raise self._fault(place, f"unknown key; known are {', '.join(fields)}")
                    continue
                if key in places:
                    raise self._fault(place, f"given by {places[key]} already")
                places[key] = place
                values[key] = self._value(place, value, hints[key])
        return self._built(owned, target, values)

    def _built(self, sections: Sequence[str], target: type[_T], values: Mapping[str, Any]) -> _T:
        """The dataclass of some values, none of the required ones missing."""
        for key, item in _fields(target)[0].items():
            if key not in values and item.default is item.default_factory is dataclasses.MISSING:
                raise self._fault(f"{sections[0]}.{key}", "required")
        try:
            return target(**values)
        except Exception as error:  # whatever the dataclass raises to refuse a value
            raise InvalidConfig(f"{self.path}: {', '.join(sections)}: {error}") from error

    def _nested(self, place: str, value: object, target: type[_T]) -> _T:
        """A dataclass inside another one, from a mapping whose keys are its fields."""
        fields, hints = _fields(target)
        values: dict[str, Any] = {}
        for key, entry in self._mapping(place, value).items():
            if key not in fields:
                raise self._fault(f"{place}.{key}", f"unknown key; known are {', '.join(fields)}")
            values[key] = self._value(f"{place}.{key}", entry, hints[key])
        return self._built((place,), target, values)

    def _entries(self, section: str, overrides: Mapping[str, object]) -> dict[str, object]:
        """Scalar entries of a section with its overrides; nested sections are left out."""
        sections = _FILES[self.name][1]
        node: object = self.document
        for part in section.split("."):
            node = self._mapping(section, node).get(part)
        entries = {
            key: value
            for key, value in self._mapping(section, node).items()
            if f"{section}.{key}" not in sections
        }
        for path, value in overrides.items():
            parent, _, key = path.rpartition(".")
            if parent == section and value is not None:
                entries[key] = value
        return entries

    def _refuse_strays(
        self,
        target: type[object],
        overrides: Mapping[str, object],
        sections: Sequence[str],
        fields: Mapping[str, object],
    ) -> None:
        for path in overrides:
            parent, _, key = path.rpartition(".")
            if parent not in sections or key not in fields:
                raise InvalidConfig(f"override {path} names no setting of {target.__name__}")

    def _mapping(self, place: str, node: object) -> dict[str, object]:
        if node is None:
            return {}
        if not isinstance(node, dict):
            raise self._fault(place, f"must be a mapping, got {node!r}")
        entries = cast("dict[object, object]", node)
        for key in entries:
            if not isinstance(key, str):
                raise self._fault(place, f"keys must be text, got {key!r}")
        return cast("dict[str, object]", entries)

    def _value(self, place: str, value: object, hint: Any) -> Any:
        """`value` as the annotated type: no boolean as a number, no text as a number."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            if value is None and type(None) in arguments:
                return None
            (hint,) = (a for a in arguments if a is not type(None))
            return self._value(place, value, hint)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self._fault(place, f"must be a mapping, got {value!r}")
            entries = cast("dict[object, object]", value)
            return {
                self._value(f"{place} key", k, arguments[0]): self._value(
                    f"{place}.{k}", v, arguments[1]
                )
                for k, v in entries.items()
            }
        if origin is tuple:
            if not isinstance(value, list):
                raise self._fault(place, f"must be a list, got {value!r}")
            items = cast("list[object]", value)
            return tuple(self._value(f"{place}.{i}", v, arguments[0]) for i, v in enumerate(items))
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self._nested(place, value, hint)
        return self._scalar(place, value, hint)

    def _scalar(self, place: str, value: object, kind: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is float and is_number and math.isfinite(number := float(cast(float, value))):
            return number
        if kind is int and is_number and isinstance(value, int):
            return value
        if kind in (bool, str) and isinstance(value, kind):
            return value
        names: dict[object, str] = {
            float: "a finite number",
            int: "an integer",
            bool: "true or false",
            str: "a text",
        }
        raise self._fault(place, f"must be {names.get(kind, str(kind))}, got {value!r}")

    def _fault(self, place: str, reason: str) -> InvalidConfig:
        return InvalidConfig(f"{self.path}: {place}: {reason}")


def _fields(target: type[object]) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    """Fields that a constructor takes, and the types of all, by name."""
    found = {f.name: f for f in dataclasses.fields(cast(Any, target)) if f.init}
    return found, typing.get_type_hints(target)


def environment(environ: Mapping[str, str] | None = None) -> str:
    """Name of the environment: `ROEHUB_ENV`, `dev` when it is unset or blank."""
    name = (os.environ if environ is None else environ).get("ROEHUB_ENV", "").strip() or "dev"
    if name not in ENVIRONMENTS:
        raise InvalidConfig(f"ROEHUB_ENV must be one of {', '.join(ENVIRONMENTS)}, got {name!r}")
    return name


def config_path(name: str, environ: Mapping[str, str] | None = None) -> Path:
    """File used for `name`: `ROEHUB_<NAME>_CONFIG`, else the environment's own."""
    known = os.environ if environ is None else environ
    chosen = known.get(f"ROEHUB_{name.upper()}_CONFIG", "").strip()
    return Path(chosen) if chosen else _DIRECTORY / environment(known) / f"{name}.yaml"


def environment_file(name: str, environ: Mapping[str, str] | None = None) -> Path:
    """A file of the environment that is no configuration, such as `whitelist.csv`."""
    return _DIRECTORY / environment(environ) / name


def config(
    name: str, environ: Mapping[str, str] | None = None, *, path: Path | None = None
) -> ConfigFile:
    """The parsed file for `name` (`backtest`, `indicators`, `market_data`, `strategy`).

    `path` is used instead of the environment's own if it is given.

    Raises: InvalidConfig for an unknown environment, an unreadable file, YAML that is broken or
    repeats a key, another version, an unknown key at the top.
    """
    path = config_path(name, environ) if path is None else path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: cannot be read: {error}") from None
    try:
        loaded = yaml.load(text, Loader=_Loader)  # nosec B506
        raw = cast(object, loaded)
    except yaml.YAMLError as error:
        raise InvalidConfig(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise InvalidConfig(f"{path}: must be a mapping at the top")
    document = cast("dict[str, Any]", raw)
    keys, _ = _FILES[name]
    for key in document:
        if key not in keys:
            raise InvalidConfig(f"{path}: {key}: unknown key; known are {', '.join(keys)}")
    version = document.get(keys[0])
    if isinstance(version, bool) or version != 1:
        raise InvalidConfig(f"{path}: {keys[0]}: must be 1, got {version!r}")
    return ConfigFile(name, path, document)


class _Loader(yaml.CSafeLoader):
    """Safe YAML that refuses a repeated key; plain YAML lets the last one win.

    A time stays the text that it is: whoever wants one says whether it may lack a zone.
    """


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    build = cast(Any, loader).construct_object
    keys: list[object] = [build(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"found the key {key!r} twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":timestamp")]
    for first, rules in cast(
        "dict[str, list[tuple[str, Any]]]", yaml.CSafeLoader.yaml_implicit_resolvers
    ).items()
}
