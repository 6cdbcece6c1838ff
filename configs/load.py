"""Configuration files: which one is used, and the settings dataclasses it fills.

Four layers, the later wins: the dataclass's own defaults, the environment's file, the variables
that it has for single settings, overrides from flags. Every fault is an `InvalidConfig` that names
the file, or the variable, and the place in it. Only composition roots import this module; it knows
nothing of the packages whose dataclasses it fills.

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
            "strategy.api",
            "strategy.live_worker",
            "strategy.live_worker.redis_streams",
            "strategy.live_worker.repair",
            "strategy.realtime_output.redis_streams",
            "strategy.telegram",
            "strategy.metrics",
        ),
    ),
}

# Per file: the settings that a variable overrides, which counts as not set when it is blank.
VARIABLES: dict[str, dict[str, tuple[str, type[bool] | type[int]]]] = {
    "strategy": {
        "ROEHUB_STRATEGY_API_ENABLED": ("strategy.api.enabled", bool),
        "ROEHUB_STRATEGY_LIVE_WORKER_ENABLED": ("strategy.live_worker.enabled", bool),
        "ROEHUB_STRATEGY_REALTIME_OUTPUT_REDIS_STREAMS_ENABLED": (
            "strategy.realtime_output.redis_streams.enabled",
            bool,
        ),
        "ROEHUB_STRATEGY_TELEGRAM_ENABLED": ("strategy.telegram.enabled", bool),
        "ROEHUB_STRATEGY_METRICS_PORT": ("strategy.metrics.port", int),
    }
}
_BOOLEANS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


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

    def check_groups(self, sections: Sequence[str]) -> None:
        """Refuses what is beside the sections where there is nothing but sections."""
        places = {section.rpartition(".")[0] for section in sections} - {""}
        groups = {place for place in places if place not in sections}
        groups |= {parent for one in groups if (parent := one.rpartition(".")[0])}
        for group in sorted(groups):
            if "." not in group and self.document.get(group) is None:
                raise self._fault(group, "required")
            known = [one for one in (*sections, *groups) if one.rpartition(".")[0] == group]
            for key in self._section(group):
                if f"{group}.{key}" not in known:
                    names = ", ".join(sorted(one.rpartition(".")[2] for one in known))
                    raise self._fault(f"{group}.{key}", f"unknown key; known are {names}")

    def overridden(self, environ: Mapping[str, str]) -> ConfigFile:
        """The file with the settings that variables give. Raises: InvalidConfig."""
        document = self.document
        for name, (place, kind) in VARIABLES.get(self.name, {}).items():
            text = environ.get(name, "").strip()
            if text:
                self._section(place.rpartition(".")[0])  # that there is none is no fault
                document = _with(document, place.split("."), _literal(name, text, kind))
        return dataclasses.replace(self, document=document)

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
        entries = {
            key: value
            for key, value in self._section(section).items()
            if f"{section}.{key}" not in sections
        }
        for path, value in overrides.items():
            parent, _, key = path.rpartition(".")
            if parent == section and value is not None:
                entries[key] = value
        return entries

    def _section(self, section: str) -> dict[str, object]:
        node: object = self.document
        for part in section.split("."):
            node = self._mapping(section, node).get(part)
        return self._mapping(section, node)

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


def _literal(name: str, text: str, kind: type[bool] | type[int]) -> bool | int:
    """The value of a variable. Raises: InvalidConfig."""
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise InvalidConfig(f"{name} must be one of {', '.join(_BOOLEANS)}, got {text!r}")
        return _BOOLEANS[text.lower()]
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidConfig(f"{name} must be an integer > 0, got {text!r}")
    return int(text)


def _with(node: object, path: Sequence[str], value: object) -> dict[str, Any]:
    """A mapping with a value at a path; what is none yet begins empty."""
    entries = cast("dict[str, Any]", node) if isinstance(node, dict) else {}
    head, *rest = path
    return {**entries, head: _with(entries.get(head), rest, value) if rest else value}


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
    return parsed_config(name, document_of(path), path, environ)


def document_of(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file is. Raises: InvalidConfig."""
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
    return cast("dict[str, Any]", raw)


def parsed_config(
    name: str, document: dict[str, Any], path: Path, environ: Mapping[str, str] | None = None
) -> ConfigFile:
    """The file for `name` that a document is, with the variables of the environment over it.

    Raises: InvalidConfig.
    """
    keys, sections = _FILES[name]
    for key in document:
        if key not in keys:
            raise InvalidConfig(f"{path}: {key}: unknown key; known are {', '.join(keys)}")
    version = document.get(keys[0])
    if isinstance(version, bool) or version != 1:
        raise InvalidConfig(f"{path}: {keys[0]}: must be 1, got {version!r}")
    file = ConfigFile(name, path, document)
    file.check_groups(sections)
    return file.overridden(os.environ if environ is None else environ)


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
